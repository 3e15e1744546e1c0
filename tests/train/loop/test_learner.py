"""What the host waits for in a whole step, counted on a CPU and on a GPU."""

from __future__ import annotations

import dataclasses
import itertools
import warnings

import pytest
import torch
from launches import Launches

from aweigh.runtime.device import Device
from aweigh.train.config import TrainConfig
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.loading.loader import Batch
from aweigh.train.loop import optim
from aweigh.train.loop.batches import training_batches
from aweigh.train.loop.learner import Learner
from aweigh.train.loop.step import NotFinite, fetch
from aweigh.train.methods import METHODS
from aweigh.train.process.processes import make_fabric
from aweigh.train.run.data import load_data, make_augment, make_spec

MOST_OF_THE_LOSS = 2
MOST_WAITING = MOST_OF_THE_LOSS + 1  # one for its terms together with the norm of the gradient, where they are fetched


def learner_and_batches(config: TrainConfig, count: int) -> tuple[Learner, list[Batch]]:
    train_split, _ = load_data(config)
    spec = make_spec(config, train_split)
    dataset = DetectionDataset(train_split, spec.input, augment=make_augment({}), seed=0)
    learner = Learner(config, spec, make_fabric(config))
    return learner, list(itertools.islice(training_batches(config, dataset, learner.fabric), count))


@pytest.mark.parametrize("method", METHODS)
def test_a_step_waits_a_few_times(method: str, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "_fused", lambda device: True)  # as on a GPU; the other form counts steps on the host
    config = dataclasses.replace(tiny_config, method=method, precision="fp32", batch=4)
    learner, batches = learner_and_batches(config, 1)
    with Launches() as counted:
        learner.step(batches[0], 1, 0.5, 1e-4)  # not one that is observed
    assert counted.computing.total() > 100
    assert counted.waiting.total() <= MOST_WAITING, counted.waiting


@pytest.mark.parametrize("method", METHODS)
def test_steps_that_are_fetched_together_wait_once_for_it(
    method: str, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optim, "_fused", lambda device: True)
    config = dataclasses.replace(tiny_config, method=method, precision="fp32", batch=4)
    learner, batches = learner_and_batches(config, 4)
    with Launches() as counted:
        launched = [learner.launch(batch, iteration, 0.5, 1e-4) for iteration, batch in enumerate(batches, 1)]
        values = fetch(launched)
    assert counted.waiting.total() <= len(batches) * MOST_OF_THE_LOSS + 1, counted.waiting
    again, batches = learner_and_batches(config, 4)
    for iteration, batch in enumerate(batches, 1):
        assert again.step(batch, iteration, 0.5, 1e-4) == launched[iteration - 1].outcome(values[iteration - 1])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_no_weight_changes_from_the_first_step_that_is_not_finite(
    optimizer: str, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optim, "_fused", lambda device: True)
    config = dataclasses.replace(tiny_config, optimizer=optimizer, precision="fp32", batch=4)  # type: ignore[arg-type]
    learner, batches = learner_and_batches(config, 3)
    weights = dict(learner.detector.named_parameters())
    cls = learner.detector.head.outputs["cls"].weight
    start = {name: weight.detach().clone() for name, weight in weights.items()}
    launched = [learner.launch(batches[0], 1, 0.5, 1e-3)]
    good = {name: weight.detach().clone() for name, weight in weights.items()}
    assert any(not torch.equal(good[name], start[name]) for name in weights)
    with torch.no_grad():
        cls.fill_(torch.nan)
    launched.append(learner.launch(batches[1], 2, 0.5, 1e-3))
    with torch.no_grad():
        assert cls.isnan().all()
        cls.copy_(good["head.outputs.cls.weight"])
    launched.append(learner.launch(batches[2], 3, 0.5, 1e-3))
    assert [name for name in weights if not torch.equal(weights[name], good[name])] == []
    values = fetch(launched)
    assert launched[0].outcome(values[0]).losses
    with pytest.raises(NotFinite, match="loss is not finite"):
        launched[1].outcome(values[1])
    assert launched[2].outcome(values[2]).losses
    learner.load_state(learner.state())  # as at the end of a trial: what was held back is forgotten
    learner.launch(batches[2], 3, 0.5, 1e-3)
    assert any(not torch.equal(good[name], weights[name]) for name in weights)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_a_step_on_a_gpu_waits_a_few_times(method: str, tiny_config: TrainConfig) -> None:
    config = dataclasses.replace(tiny_config, method=method, device=Device("cuda"), batch=4)
    learner, batches = learner_and_batches(config, 3)
    assert all(batch.images_u8.is_pinned() for batch in batches)
    for iteration, batch in enumerate(batches[:2], 1):  # compile, and fill the pools of memory
        learner.step(batch, iteration, 0.5, 1e-4)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            launched = learner.launch(batches[2], 3, 0.5, 1e-4)
            few = len(seen)
            fetch([launched])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(w.message) for w in seen if "synchronizing CUDA operation" in str(w.message)]
    assert len(waits) <= MOST_WAITING, waits
    ahead = [str(w.message) for w in seen[:few] if "synchronizing CUDA operation" in str(w.message)]
    assert len(ahead) <= MOST_OF_THE_LOSS, ahead

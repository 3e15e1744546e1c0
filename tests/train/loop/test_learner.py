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
from aweigh.train.methods import METHODS
from aweigh.train.process.processes import make_fabric
from aweigh.train.run.data import load_data, make_augment, make_spec

# Two of the loss, and one for its terms together with the norm of the gradient.
MOST_WAITING = 3


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_a_step_on_a_gpu_waits_a_few_times(method: str, tiny_config: TrainConfig) -> None:
    config = dataclasses.replace(tiny_config, method=method, device=Device("cuda"), batch=4)
    learner, batches = learner_and_batches(config, 3)
    for iteration, batch in enumerate(batches[:2], 1):  # compile, and fill the pools of memory
        learner.step(batch, iteration, 0.5, 1e-4)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            learner.step(batches[2], 3, 0.5, 1e-4)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(w.message) for w in seen if "synchronizing CUDA operation" in str(w.message)]
    assert len(waits) <= MOST_WAITING, waits

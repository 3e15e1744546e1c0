"""What a step computes does not depend on how many processes and parts share its pictures."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.multiprocessing as mp

from aweigh.train.config import TrainConfig, make_config
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.loop.batches import training_batches
from aweigh.train.loop.budget import Budget
from aweigh.train.loop.learner import Learner
from aweigh.train.loop.trainer import Trainer
from aweigh.train.loop.validation import Validator
from aweigh.train.methods import METHODS
from aweigh.train.models.detector import DenseDetector
from aweigh.train.process.processes import make_fabric, this_process, together
from aweigh.train.run.data import load_data, make_augment, make_spec
from aweigh.train.tracking.counters import Counters

Losses = list[dict[str, float]]

STEPS = 20


class Case(NamedTuple):
    batch: int
    parts: int
    steps: int


# Of one process, and of two; the last batch cannot be divided evenly.
ONE, PARTS, ODD_ONE = Case(16, 1, STEPS), Case(16, 3, 6), Case(15, 1, 4)
TWO, TWO_PARTS, TWO_ODD = Case(16, 1, STEPS), Case(16, 2, 6), Case(15, 3, 4)


class Exact(Learner):
    """In float64; BatchNorm is frozen, and what else depends on the share of a batch is rounding."""

    def _build(self) -> DenseDetector:
        return super()._build().double()


def losses_of(config: TrainConfig, method: str, case: Case) -> Losses:
    config = dataclasses.replace(config, method=method, batch=case.batch, accumulate=case.parts, precision="fp32")
    train_split, val = load_data(config)
    spec = make_spec(config, train_split)
    dataset = DetectionDataset(train_split, spec.input, augment=make_augment({}), seed=config.seed)
    learner = Exact(config, spec, make_fabric(config))
    validator, budget = Validator(learner, val, case.batch), Budget(STEPS, batches_per_epoch=STEPS, val_every=1)
    trainer = Trainer(config, learner, dataset, validator, budget, Counters(), threads=1, listener=None)
    batches = training_batches(config, dataset, learner.fabric)
    losses = []
    for loaded in itertools.islice(batches, case.steps):
        trainer.launch(loaded)
        losses.append(dict(trainer.fetch()))
    return losses


def _rank(rank: int, port: int, values: dict[str, object], cases: list[Case], out: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
    config = make_config(values)
    with together():
        found = {f"{name} {case}": losses_of(config, name, case) for name in sorted(METHODS) for case in cases}
        assert this_process().rank == rank
    Path(out, f"{rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def of_two(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Losses]]]:
    """What each of two processes reports, by method and case."""
    out = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (port, tiny(shapes), [TWO, TWO_PARTS, TWO_ODD], str(out))
    mp.start_processes(_rank, args=arguments, nprocs=2, start_method="spawn")
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


def tiny(shapes: Path) -> dict[str, object]:
    network = {"width": 8, "channels": 16, "convs": 1}
    sizes = {"model": "nano", "imgsz": "64", "network": network, "backbone_norm": "frozen"}
    # The learning rate follows the batch, and that is the one of all processes.
    return {"data": str(shapes), "lr0": 0.006, "lr_batch": 32, "workers": 0, **sizes}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_processes_and_parts_give_the_losses_of_the_whole_batch(
    method: str, shapes: Path, of_two: list[dict[str, Losses]]
) -> None:
    config = make_config(tiny(shapes))
    one, odd_one = (losses_of(config, method, case) for case in (ONE, ODD_ONE))
    assert len(one) == STEPS
    assert sum(one[0].values()) != pytest.approx(sum(one[-1].values()), rel=1e-3)  # it learns
    require_same(losses_of(config, method, PARTS), one[: PARTS.steps])
    for rank in of_two:
        require_same(rank[f"{method} {TWO}"], one)
        require_same(rank[f"{method} {TWO_PARTS}"], one[: TWO_PARTS.steps])
        require_same(rank[f"{method} {TWO_ODD}"], odd_one)


def require_same(found: Losses, expected: Losses) -> None:
    for got, wanted in zip(found, expected, strict=True):
        assert got == pytest.approx(wanted, rel=1e-6, abs=1e-9)

"""Care for the user: batch size from memory, running out of it, why a run ended, rare classes, loggers."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import CannotRun
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.config import TrainConfig, make_config
from aweigh.train.data.loading.loader import Batch
from aweigh.train.data.loading.order import TrainingOrder
from aweigh.train.data.loading.repeat import class_factors, repeat_factors
from aweigh.train.data.open import load_split
from aweigh.train.loop.learner import Learner
from aweigh.train.process.memory import explain_out_of_memory
from aweigh.train.run import batch_size
from aweigh.train.run.batch_size import choose_batch
from aweigh.train.run.session import train
from aweigh.train.tracking.loggers import make_logger

CPU = torch.device("cpu")


def keeping(mebibytes: int, fixed: int = 0) -> object:
    """A step of which autograd keeps so much for each picture."""

    def step(pictures: int) -> None:
        x = torch.ones((fixed + mebibytes * pictures) << 18, requires_grad=True)
        x.square().sum().backward()  # type: ignore[no-untyped-call]

    return step


@pytest.mark.parametrize(("room_mib", "batch"), [(1000, 16), (72, 8), (17, 2), (10, 1)])
def test_batch_follows_what_is_free(room_mib: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Needed: 1.6 x 4 MiB a picture; free: 70 % of what the system reports.
    monkeypatch.setattr(batch_size, "free_memory_bytes", lambda: int((room_mib << 20) / 0.9))
    chosen = choose_batch(keeping(4), CPU, 1000)  # type: ignore[arg-type]
    assert chosen.batch == batch
    assert "GB" in chosen.why


def test_batch_of_a_small_split_and_of_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_batch(keeping(1), CPU, 5).batch == 4  # type: ignore[arg-type]
    assert choose_batch(keeping(1), CPU, 1).batch == 1  # type: ignore[arg-type]
    monkeypatch.setattr(batch_size, "free_memory_bytes", lambda: 1 << 20)
    with pytest.raises(CannotRun, match="one image takes about"):
        choose_batch(keeping(4), CPU, 10)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batch_by_trying_on_a_gpu() -> None:
    device = torch.device("cuda", 0)
    total = torch.cuda.get_device_properties(device).total_memory

    def step(pictures: int) -> None:
        torch.empty(int(total * 0.15) * pictures, dtype=torch.uint8, device=device)

    chosen = choose_batch(step, device, 1000)
    assert chosen.batch == 4
    assert "16 did not fit" in chosen.why


def test_an_allocation_that_fails_is_told_with_figures() -> None:
    words = r"batch 8 at an input of 384x288: .*GB.*--batch 4"
    with pytest.raises(CannotRun, match=words), explain_out_of_memory(8, (288, 384), CPU):
        torch.empty(1 << 56, dtype=torch.uint8)
    with pytest.raises(CannotRun, match="--batch 1 "), explain_out_of_memory(1, (32, 32), CPU):
        np.empty(1 << 56, np.uint8)
    with pytest.raises(RuntimeError, match="something else"), explain_out_of_memory(1, (32, 32), CPU):
        raise RuntimeError("something else")


def test_a_run_out_of_memory_ends_with_exit_code_3(
    tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launch = Learner.launch

    def greedy(self: Learner, batch: Batch, iteration: int, *arguments: float) -> object:
        if iteration == 1:
            torch.empty(1 << 56, dtype=torch.uint8)
        return launch(self, batch, iteration, *arguments)

    monkeypatch.setattr(Learner, "launch", greedy)
    recipe = Path(tiny_config.project) / "recipe.yaml"
    recipe.parent.mkdir()
    recipe.write_text(yaml.safe_dump(tiny_config.to_dict()))
    assert main(["train", "--config", str(recipe)]) == 3
    assert "out of memory on cpu with batch 8 at an input of 64x64" in capsys.readouterr().err
    assert load_checkpoint(tiny_config.run_dir / "weights" / "last.pt").training["counters"]["iteration"] == 0


def test_a_run_with_all_of_it(tiny_config: TrainConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """Batch from memory, rare classes, TensorBoard, stopped by its patience; then resumed, and nothing is done."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = Path(tiny_config.project) / "recipe.yaml"
    recipe.parent.mkdir()
    values = {**tiny_config.to_dict(), "epochs": 30, "lr0": 1e-9, "warmup": 0.0, "val_every": 1, "patience": 2}
    recipe.write_text(yaml.safe_dump(values))
    flags = ["--batch", "auto", "--repeat-threshold", "0.9", "--logger", "tensorboard", "--json"]
    assert main(["train", "--config", str(recipe), *flags]) == 0
    output = capsys.readouterr()
    summary = json.loads(output.out)
    assert (summary["ended"], summary["batch"]) == ("patience", 16)
    assert summary["iterations_done"] < summary["iterations"]
    assert json.loads((tiny_config.run_dir / "summary.json").read_text()) == summary
    assert "batch: 16 (a step with 16 takes about" in output.err
    assert "repeat factors: an epoch shows" in output.err
    events = EventAccumulator(str(tiny_config.run_dir / "tensorboard"))
    events.Reload()
    points = events.Scalars("val/AP")
    assert points[-1].step == summary["iterations_done"]
    assert [point.step for point in points] == sorted({point.step for point in points})
    assert "train/loss_loc" in events.Tags()["scalars"]
    assert main(["train", "--resume", "--project", tiny_config.project, "--name", tiny_config.name, "--json"]) == 0
    output = capsys.readouterr()
    assert "finished (patience)" in output.err
    again = json.loads(output.out)
    assert (again["ended"], again["iterations_done"]) == ("patience", summary["iterations_done"])


@pytest.mark.parametrize("logger", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_logger_names_its_extra(
    logger: str, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aweigh.train.tracking.loggers.find_spec", lambda name: None)
    with pytest.raises(CannotRun, match=rf"--logger {logger} needs .*\.\[{logger}\]"):
        train(dataclasses.replace(tiny_config, logger=logger))  # type: ignore[arg-type]
    assert not tiny_config.run_dir.exists()
    assert "mlflow" not in sys.modules


@pytest.mark.filterwarnings("default")  # theirs
def test_mlflow_goes_on_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="needs the extra mlflow, which dev does not hold")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for start in (0, 10):
        logger = make_logger("mlflow", tmp_path / "run", {"lr0": 0.1, "options": {"refine": False}}, start)
        assert logger is not None
        for step in (start + 5, start + 10):
            logger.log_metrics({"val/AP": step / 100}, step)
        logger.finalize("success")
    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("aweigh").experiment_id])
    assert (run.info.status, run.data.params) == ("FINISHED", {"lr0": "0.1", "options.refine": "False"})
    history = client.get_metric_history(run.info.run_id, "val/AP")
    assert [(m.step, m.value) for m in history] == [(5, 0.05), (10, 0.1), (15, 0.15), (20, 0.2)]


@pytest.mark.filterwarnings("default")  # theirs
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs the extra wandb, which dev does not hold")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = make_logger("wandb", tmp_path, {"lr0": 0.1}, 0)
    assert logger is not None
    logger.log_metrics({"val/AP": 0.5}, 5)
    logger.finalize("success")
    (events,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert b"val/AP" in events.read_bytes()


def test_batch_in_recipes_and_flags(tiny_config: TrainConfig) -> None:
    assert make_config({"data": "x", "batch": "auto"}).batch == 0
    assert main(["train", "--data", "x", "--batch", "many"]) == 2


def test_repeat_factors_are_those_of_the_paper(shapes: Path) -> None:
    split = load_split(shapes, "train")
    counts = np.zeros(len(split.categories))
    for record in split.records:
        for label in set(record.labels[record.targets].tolist()):
            counts[label] += 1
    factors = class_factors(split, 0.7)
    expected = [max(1.0, (0.7 / (count / len(split.records))) ** 0.5) if count else 1.0 for count in counts.tolist()]
    assert factors.tolist() == pytest.approx(expected)
    assert max(expected) > 1
    repeats = repeat_factors(split, 0.7)
    for record, repeat in zip(split.records, repeats, strict=True):
        assert repeat == pytest.approx(max([expected[label] for label in record.labels.tolist()], default=1.0))


def test_an_order_with_repeats() -> None:
    repeats = (1.0, 2.5, 1.0, 3.25, 1.1, 1.0, 1.0)
    order = TrainingOrder(7, 2, seed=3, repeats=repeats)
    assert order.draws == 10
    assert order.batches_per_epoch == 5
    epochs = [[item for i in range(5) for item in order.batch(epoch, i)] for epoch in range(400)]
    times = np.array([[sum(index == i for _, index in epoch) for i in range(7)] for epoch in epochs])
    assert (times.sum(axis=1) == 10).all()
    # The half draw and more that an epoch has no room for is taken off all pictures alike.
    assert times.mean(axis=0) == pytest.approx(np.array(repeats) * 10 / sum(repeats), abs=0.12)
    # No two draws of a picture are augmented alike, in this epoch or any other.
    assert len({item for epoch in epochs for item in epoch}) == 4000
    stream = order.batches(2, 3)
    assert next(stream) == order.batch(2, 3)
    assert TrainingOrder(7, 2, seed=3, repeats=(1.0,) * 7).draws == 7

"""Training: what it writes, that it resumes bit for bit after kill -9, and how it stops."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput, CheckFailed
from aweigh.runtime.size import Size
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.config import TrainConfig
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.loading.loader import Batch
from aweigh.train.loop import optim, trainer
from aweigh.train.loop.budget import Budget
from aweigh.train.loop.learner import Learner
from aweigh.train.loop.trainer import Epoch, Trainer
from aweigh.train.loop.validation import Validator
from aweigh.train.run import session
from aweigh.train.run.data import auto_size
from aweigh.train.run.length import measure_budget
from aweigh.train.run.result import TrainResult
from aweigh.train.run.session import train
from aweigh.train.tracking.folder import RunDir

Finished = tuple[TrainConfig, TrainResult]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = load_checkpoint(run / "weights" / "last.pt")
    return {**{f"model.{k}": v for k, v in checkpoint.training["model"].items()}, **checkpoint.weights}


def require_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_run_folder(finished: Finished) -> None:
    config, summary = finished
    run = config.run_dir
    assert summary.checkpoint == str(run / "weights" / "best.pt")
    assert yaml.safe_load((run / "args.yaml").read_text())["resolved"]["iterations"] == 6
    assert yaml.safe_load((run / "args.yaml").read_text())["resolved"]["options"]["sharpness"] == [5.0, 3.0]
    assert json.loads((run / "env.json").read_text())["threads"] == 1
    assert json.loads((run / "summary.json").read_text())["val"]["AP"] == summary.val["AP"]
    with (run / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["3", "6"]
    assert float(rows[0]["train/loss_loc"]) > 0
    assert (run / "results.png").read_bytes().startswith(b"\x89PNG")
    for name in ("PR_curve.png", "F1_curve.png", "confusion_matrix.png", "train_batch.png", "val_predictions.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    best = load_checkpoint(run / "weights" / "best.pt")
    assert len(best.spec.best_conf) == len(best.spec.categories)
    assert json.loads((run / "curves.json").read_text())["thresholds"] == {
        str(c.id): value for c, value in zip(best.spec.categories, best.spec.best_conf, strict=True)
    }
    assert best.training == {}
    assert best.spec.parents["data_digest"]
    assert [c.id for c in best.spec.categories] != list(range(len(best.spec.categories)))
    with pytest.raises(BadInput, match="exists"):
        train(config)
    assert TrainResult.from_dict(json.loads((run / "summary.json").read_text())) == summary


def test_a_callback_gets_every_epoch(tiny_config: TrainConfig) -> None:
    epochs: list[Epoch] = []

    def keep(epoch: Epoch) -> None:
        last = load_checkpoint(tiny_config.run_dir / "weights" / "last.pt").training["counters"]
        assert (last["epoch"], last["iteration"]) == (epoch.epoch, epoch.iteration), "its checkpoint is written"
        epochs.append(epoch)

    result = train(dataclasses.replace(tiny_config, epochs=3, val_every=2), on_epoch=keep)
    assert [(one.epoch, one.iteration, one.metrics is None) for one in epochs] == [
        (1, 3, True),
        (2, 6, False),
        (3, 9, False),
    ]
    assert {(one.epochs, one.iterations) for one in epochs} == {(3, 9)}
    best = [one for one in epochs if one.best][-1]
    assert best.metrics == result.val
    assert best.iteration == result.val_iteration
    with (tiny_config.run_dir / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["train/loss_loc"]) == epochs[-1].losses["loss_loc"]


def test_a_callback_that_raises_leaves_a_run_to_be_resumed(tiny_config: TrainConfig, finished: Finished) -> None:
    def stop(epoch: Epoch) -> None:
        raise KeyError(epoch.epoch)

    with pytest.raises(KeyError):
        train(tiny_config, on_epoch=stop)
    train(tiny_config, resume=True)
    require_equal(weights_of(finished[0].run_dir), weights_of(tiny_config.run_dir))


def test_a_callback_is_refused_for_processes_of_the_run_itself(tiny_config: TrainConfig) -> None:
    with pytest.raises(BadInput, match="on_epoch: expected one process"):
        train(dataclasses.replace(tiny_config, devices=2), on_epoch=print)


def test_same_seed_same_weights_whatever_the_workers(tiny_config: TrainConfig, finished: Finished) -> None:
    for name, workers, seed in (("b", 2, 0), ("c", 0, 1)):
        train(dataclasses.replace(tiny_config, name=name, workers=workers, seed=seed))
    project = Path(tiny_config.project)
    require_equal(weights_of(finished[0].run_dir), weights_of(project / "b"))
    different = weights_of(project / "c")
    assert any(not torch.equal(value, different[name]) for name, value in weights_of(finished[0].run_dir).items())


def _iteration(last: Path) -> int:
    return int(load_checkpoint(last).training["counters"]["iteration"]) if last.exists() else -1


@pytest.mark.parametrize(("method", "iteration"), [("dw", 0), ("o2f", 13)])
def test_killed_run_resumes_byte_for_byte(method: str, iteration: int, tiny_config: TrainConfig) -> None:
    """Killed a random while after the checkpoint of a given iteration was seen."""
    config = dataclasses.replace(tiny_config, method=method, epochs=6, batch=4)
    train(dataclasses.replace(config, name="whole"))
    killed = dataclasses.replace(config, name="killed")
    recipe = Path(config.project) / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(killed.to_dict()))
    command = [sys.executable, "-m", "aweigh.runtime.cli", "train", "--config", str(recipe)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    last = killed.run_dir / "weights" / "last.pt"
    deadline = time.monotonic() + 120
    while _iteration(last) < iteration and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(int.from_bytes(os.urandom(1), "big") / 255 * 0.2)  # anywhere in a step, a validation or a write
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert last.exists(), errors.decode()
    assert main(["train", "--resume", "--project", config.project, "--name", "killed"]) == 0
    require_equal(weights_of(Path(config.project) / "whole"), weights_of(killed.run_dir))


def interrupt_at(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a step."""
    launch = Learner.launch

    def interrupted(self: Learner, batch: Batch, iteration: int, *arguments: float) -> object:
        if iteration == at:
            signal.raise_signal(signal.SIGINT)
        return launch(self, batch, iteration, *arguments)

    monkeypatch.setattr(Learner, "launch", interrupted)


def test_interrupt_leaves_a_run_to_be_resumed(
    tiny_config: TrainConfig,
    finished: Finished,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The step is finished, the run saved."""
    with monkeypatch.context() as context:
        interrupt_at(3, context)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_config)
    assert load_checkpoint(tiny_config.run_dir / "weights" / "last.pt").training["counters"]["iteration"] == 4
    begun = capsys.readouterr().err
    assert "classes (objects in train): 3 disk (" in begun
    assert "--resume" not in begun.replace("go on with --resume", "")
    train(tiny_config, resume=True)
    place = tiny_config.run_dir / "weights" / "last.pt"
    assert f"--resume: goes on after iteration 4 of 6, from {place}\n" in capsys.readouterr().err
    require_equal(weights_of(finished[0].run_dir), weights_of(tiny_config.run_dir))


def test_pixels_made_on_the_device_train_and_resume_the_same(tiny_config: TrainConfig) -> None:
    """The CPU as the device: an interrupted run, with workers or without, is the whole one byte for byte."""
    config, project = dataclasses.replace(tiny_config, augment_on="device", epochs=3), Path(tiny_config.project)
    train(dataclasses.replace(config, name="whole"))
    with pytest.MonkeyPatch.context() as context:
        interrupt_at(4, context)
        with pytest.raises(KeyboardInterrupt):
            train(dataclasses.replace(config, name="cut", workers=1))
    train(dataclasses.replace(tiny_config, name="cut"), resume=True)  # its own setting is the recorded one
    require_equal(weights_of(project / "whole"), weights_of(project / "cut"))
    assert load_checkpoint(project / "cut" / "weights" / "last.pt").training["config"]["augment_on"] == "device"
    train(dataclasses.replace(tiny_config, epochs=3, name="host"))
    of_host, of_device = (RunDir(project / name).rows()[0] for name in ("host", "whole"))
    for name in ("train/loss_cls_pos", "train/loss_loc"):
        assert float(of_device[name]) == pytest.approx(float(of_host[name]), rel=0.05)


@pytest.mark.parametrize(("resize", "imgsz"), [("keep-ratio", "48x96"), ("stretch", "64x96")])
def test_other_ways_to_resize(resize: str, imgsz: str, tiny_config: TrainConfig) -> None:
    summary = train(dataclasses.replace(tiny_config, resize=resize, imgsz=Size.parse(imgsz), epochs=1))  # type: ignore[arg-type]
    spec = load_checkpoint(summary.checkpoint).spec
    assert (spec.input.resize, spec.input.dynamic_size) == (resize, resize == "keep-ratio")


def test_patience_stops_a_run_that_gets_no_better(tiny_config: TrainConfig) -> None:
    config = dataclasses.replace(tiny_config, epochs=30, lr0=1e-9, warmup=0.0, val_every=1, patience=2)
    train(config)
    counters = load_checkpoint(config.run_dir / "weights" / "last.pt").training["counters"]
    assert counters["stale"] == 2
    assert counters["epoch"] < 30


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_a_loss_that_is_not_finite_stops_with_a_diagnosis(
    runs_ahead: bool, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch, launched = Learner.launch, []

    def poisoned(self: Learner, batch: Batch, iteration: int, *arguments: float) -> object:
        launched.append(iteration)
        if iteration == 4:
            with torch.no_grad():
                self.detector.head.outputs["cls"].weight.fill_(torch.nan)
        return launch(self, batch, iteration, *arguments)

    if runs_ahead:
        monkeypatch.setattr(optim, "_fused", lambda device: True)  # as on a GPU
    monkeypatch.setattr(Learner, "launch", poisoned)
    with pytest.raises(CheckFailed, match=r"not finite at iteration 4 \(epoch 1\).*learning rate .*\.jpg"):
        train(tiny_config)
    assert launched[-1] == (5 if runs_ahead else 4)  # seen at the end of the epoch, before anything is saved
    kept = load_checkpoint(tiny_config.run_dir / "weights" / "last.pt")
    assert kept.training["counters"]["iteration"] == 3
    assert all(torch.isfinite(v).all() for v in kept.weights.values() if v.is_floating_point())


def test_how_often_losses_are_fetched_changes_nothing(
    tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU, with a GPU's optimizer: fetched at every step, or at every tenth; interrupted there and resumed."""
    monkeypatch.setattr(optim, "_fused", lambda device: True)
    looks: dict[str, list[int]] = {}
    fetch = Trainer.fetch

    def watched(self: Trainer) -> object:
        looks.setdefault(self.config.name, []).append(self.counters.iteration)
        return fetch(self)

    monkeypatch.setattr(Trainer, "fetch", watched)
    project = Path(tiny_config.project)
    config = dataclasses.replace(tiny_config, batch=2, epochs=2)  # 12 iterations to an epoch
    train(dataclasses.replace(config, name="ten"))
    with monkeypatch.context() as context:
        interrupt_at(15, context)
        with pytest.raises(KeyboardInterrupt):
            train(dataclasses.replace(config, name="cut"))
    train(dataclasses.replace(config, name="cut"), resume=True)
    monkeypatch.setattr(trainer, "FETCH_EVERY", 1)
    train(dataclasses.replace(config, name="one"))
    assert looks == {"ten": [10, 12, 20, 24], "cut": [10, 12, 16, 20, 24], "one": list(range(1, 25))}
    for name in ("one", "cut"):
        require_equal(weights_of(project / "ten"), weights_of(project / name))
        ten, other = ([_without_speed(row) for row in RunDir(project / run).rows()] for run in ("ten", name))
        assert ten == other


def _without_speed(row: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name != "train/images_per_s"}


def test_minutes_become_iterations_once(tiny_config: TrainConfig) -> None:
    config = dataclasses.replace(tiny_config, minutes=0.03, epochs=1)
    train(config)
    resolved = yaml.safe_load((config.run_dir / "args.yaml").read_text())["resolved"]
    assert resolved["measured_ms"] > 0
    recorded = load_checkpoint(config.run_dir / "weights" / "last.pt").training
    assert recorded["budget"]["iterations"] == recorded["counters"]["iteration"] == resolved["iterations"]


def test_training_does_not_start_with_what_the_timing_trial_learnt(
    tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []

    def watched(config: TrainConfig, learner: Learner, dataset: DetectionDataset, validator: Validator) -> Budget:
        states.append(copy.deepcopy(learner.state()))
        budget = measure_budget(config, learner, dataset, validator)
        states.append(copy.deepcopy(learner.state()))
        return budget

    monkeypatch.setattr(session, "measure_budget", watched)
    train(dataclasses.replace(tiny_config, minutes=0.02))
    before, after = states
    require_equal(before["model"], after["model"])
    require_equal(before["average"], after["average"])
    assert before["optimizer"]["state"] == after["optimizer"]["state"] == {}


def test_checkpoint_refuses_a_pickle_and_foreign_files(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("no checkpoint")
    for name in ("evil", "foreign", "empty", "text", "missing"):
        with pytest.raises(BadInput, match=rf"{name}\.pt"):
            load_checkpoint(tmp_path / f"{name}.pt")
    assert not (tmp_path / "executed").exists()


def test_size_follows_the_pictures(shapes: Path) -> None:
    from aweigh.train.data.open import load_split

    split = load_split(shapes, "train")
    assert auto_size(split, 384) == (384, 384)
    wide = dataclasses.replace(split, records=tuple(dataclasses.replace(r, size_hw=(480, 640)) for r in split.records))
    assert auto_size(wide, 384) == (288, 384)
    mixed = dataclasses.replace(
        split,
        records=tuple(
            dataclasses.replace(r, size_hw=(480, 640) if i % 3 else (640, 480)) for i, r in enumerate(split.records)
        ),
    )
    assert auto_size(mixed, 384) == (384, 384)

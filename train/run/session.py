"""From a recipe to a finished run: data, device, threads, length, training, and the final figures."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import InputSpec, ModelSpec
from aweigh.runtime.values import build
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.config import PLACE_FLAGS, TrainConfig, make_config
from aweigh.train.data.loading.augment import Augment
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.loading.repeat import repeats_told
from aweigh.train.data.open import available_splits, load_split
from aweigh.train.data.records import Split, summary
from aweigh.train.evaluation.curves import CURVES_NAME, plot_curves
from aweigh.train.evaluation.run import TorchPredictor, evaluate
from aweigh.train.loop.trainer import Trainer
from aweigh.train.methods import make_method
from aweigh.train.models.deployable import Deployable
from aweigh.train.models.detector import architecture
from aweigh.train.process.console import say
from aweigh.train.process.device import deterministic
from aweigh.train.process.memory import memory_told
from aweigh.train.process.processes import gather, make_fabric, place, together
from aweigh.train.process.threads import choose_threads
from aweigh.train.run.batch_size import with_batch
from aweigh.train.run.budget import Budget, from_epochs, from_iterations, from_minutes
from aweigh.train.run.fine_tune import load_weights
from aweigh.train.tracking.counters import Counters
from aweigh.train.tracking.folder import RunDir, commit, versions
from aweigh.train.tracking.loggers import make_logger, require_logger


def train(config: TrainConfig, resume: bool = False) -> dict[str, Any]:
    """Run a recipe to its end, or go on with a run that was stopped.

    In distributed training every process calls this (torchrun or
    :func:`aweigh.train.run.launch.train_on_devices` start them); only rank 0 writes files and prints.

    Returns:
        What summary.json holds: run folder, best checkpoint, figures of the best weights on the validation split.

    Raises:
        BadInput, CannotRun, CheckFailed: see the pieces; nothing half-written stays.
    """
    with together():
        return _train(config, resume)


def _train(config: TrainConfig, resume: bool) -> dict[str, Any]:
    run, here = RunDir(config.run_dir), place()
    held: dict[str, Any] = {}
    if resume:
        held = load_checkpoint(_resumable(run)).training
        kept = {name: getattr(config, name) for name in PLACE_FLAGS}
        config = make_config({**held["config"], **kept}, where=str(run.last))
    # Wrong names are told before any work is done.
    architecture(config.model, config.network)
    make_method(config.method, 1, config.options)
    augment = make_augment(config.augment)
    require_logger(config.logger)
    fabric = make_fabric(config)
    if resume and held.get("processes", 1) == here.world_size:
        threads, why = held["threads"], "as recorded"
    else:
        threads, why = choose_threads(config.threads, here.local_size)
    torch.set_num_threads(threads)
    say(f"threads: {threads} ({why})" + (f"; {here.world_size} processes" if here.world_size > 1 else ""))
    train_split, val = load_data(config)
    spec = make_spec(config, train_split)
    _require_same_data(spec)
    if not resume and fabric.is_global_zero:
        run = RunDir.create(config.run_dir, config.exist_ok)
    dataset = DetectionDataset(
        train_split,
        spec.input,
        augment=augment,
        seed=config.seed,
        cache=config.cache,
        cache_dir=run.path / "cache",
    )
    if config.repeat_threshold:
        say(repeats_told(train_split, config.repeat_threshold))
    with deterministic(fabric.device):
        trainer = Trainer(config, fabric, spec, dataset, val, run)
        transfer = None if resume else load_weights(trainer.detector, trainer.average, spec, config)
        config = with_batch(trainer, config)
    with deterministic(fabric.device), memory_told(config.batch, spec.input.size_hw, fabric.device):
        if resume:
            trainer.load_state(held)
            trainer.counters = Counters(**held["counters"])
            budget = Budget(**held["budget"])
            if ended := trainer.ended(budget):
                say(f"{run.path}: this run is finished ({ended}); nothing to go on with")
        else:
            budget = fabric.broadcast(measure_budget(trainer, config))
        resolved = _resolved(config, spec, budget, threads, fabric)
        if fabric.is_global_zero:
            if resume:
                transfer = run.recorded("transfer")
            more = {"options": method_options(trainer), "transfer": transfer}
            run.write_args({**config.to_dict(), "resolved": {**resolved, **more}})
            run.write_env(str(fabric.device), threads)
        say(
            f"{config.model} {config.method}: {len(train_split.records)} pictures, {len(spec.categories)} classes, "
            f"input {spec.input.size_hw[1]}x{spec.input.size_hw[0]}, {budget.iterations} iterations "
            f"({budget.epochs} epochs) on {fabric.device} in {_precision(config)}, {config.run_dir}"
        )
        say(_learning_rate(trainer.peak_lr, config))
        if fabric.is_global_zero:
            trainer.logger = make_logger(config.logger, run.path, config.to_dict(), trainer.counters.iteration)
        started, status = time.perf_counter(), "failed"
        try:
            trainer.fit(budget, threads)
            status = "success"
        finally:
            if trainer.logger is not None:
                trainer.logger.finalize(status)
    result = {}
    if fabric.is_global_zero:
        result = _finish(run, trainer, budget, time.perf_counter() - started, threads)
    return fabric.broadcast(result)  # type: ignore[no-any-return]


def _require_same_data(spec: ModelSpec) -> None:
    """Raises BadInput where the machines hold different data sets."""
    digests = gather(spec.parents["data_digest"])
    if len(set(digests)) > 1:
        other = next(rank for rank, digest in enumerate(digests) if digest != digests[0])
        raise BadInput(f"--data: process {other} finds another data set there than process 0; copy it to all machines")


def make_augment(options: dict[str, Any]) -> Augment:
    """Raises BadInput for an option that is not there or out of range."""
    return build(Augment, options, "augment", coerce=True, noun="options")


def load_data(config: TrainConfig) -> tuple[Split, Split]:
    """Training and validation split, their faults told on stderr."""
    splits = []
    for name in ("train", "val"):
        split = load_split(config.data, name, faulty=config.faulty)
        for line in summary(split.faults):
            say(f"{name}: {line}")
        if not split.records:
            raise BadInput(f"--data {config.data}: split {name!r} has no usable picture")
        splits.append(split)
    train_split, val = splits
    train_split.require_same_categories(val)
    if not any(len(record.labels) for record in train_split.records):
        raise BadInput(f"--data {config.data}: no object is annotated in the training split")
    return train_split, val


def make_spec(config: TrainConfig, split: Split) -> ModelSpec:
    """The contract of the model to be trained."""
    size_hw = config.imgsz or auto_size(split, architecture(config.model, config.network).imgsz)
    multiple = InputSpec(size_hw).pad_multiple
    if config.resize == "keep-ratio":  # bounds of the shorter and the longer side; inputs of many sizes
        size_hw = min(size_hw), max(size_hw)
    elif any(side % multiple for side in size_hw):
        raise BadInput(f"--imgsz {config.imgsz}: sides must be multiples of {multiple}")
    return ModelSpec(
        method=config.method,
        architecture=config.model,
        categories=split.categories,
        input=InputSpec(size_hw, resize=config.resize, dynamic_size=config.resize == "keep-ratio"),
        post=make_method(config.method, len(split.categories), config.options).post(),
        batch=(1, 65535),
        parents={"data_digest": split.digest(), "commit": commit()},
        versions=versions(),
    )


def auto_size(split: Split, longer: int) -> tuple[int, int]:
    """(height, width): the longer side as given, the other by the median aspect ratio, in multiples of 32.

    A data set of both upright and lying pictures gets a square.
    """
    ratios = np.array([record.size_hw[0] / record.size_hw[1] for record in split.records])
    ratio = float(np.exp(np.median(np.log(ratios))))
    minority = min((ratios > 1.05).mean(), (ratios < 0.95).mean())
    if minority > 0.1:
        ratio = 1.0
    height, width = (longer, longer / ratio) if ratio > 1 else (longer * ratio, longer)
    return max(32, math.ceil(height / 32 - 0.01) * 32), max(32, math.ceil(width / 32 - 0.01) * 32)


def measure_budget(trainer: Trainer, config: TrainConfig) -> Budget:
    """Iterations of the run; with ``--minutes`` real steps are timed and then undone."""
    per_epoch = trainer.loader(0, 0).batches_per_epoch
    if config.minutes is None and config.iterations:
        return from_iterations(config.iterations, per_epoch, config.val_every)
    if config.minutes is None:
        return from_epochs(config.epochs, per_epoch, config.val_every)

    def validation_seconds() -> float:
        predictor = TorchPredictor(
            Deployable(trainer.averaged(), trainer.spec.post), trainer.spec, trainer.fabric.device
        )
        few = Split("val", trainer.val.categories, trainer.val.records[:16], ())
        start = time.perf_counter()
        evaluate(predictor, few, batch=config.batch, note="time")
        return (time.perf_counter() - start) / len(few.records) * len(trainer.val.records)

    with trainer.trial():
        return from_minutes(
            config.minutes,
            per_epoch,
            config.val_every,
            trainer.loader(0, 0),
            lambda batch: trainer.step(batch, 1_000_000),
            validation_seconds,
        )


def method_options(trainer: Trainer) -> dict[str, Any]:
    """All constants of the method, those that nobody set too: a later version may have other defaults."""
    constants = dataclasses.asdict(trainer.detector.method.config)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in constants.items()}


def _learning_rate(peak_lr: float, config: TrainConfig) -> str:
    if config.lr_batch in (0, config.batch):
        return f"learning rate {peak_lr:g}, batch {config.batch}"
    return f"learning rate {peak_lr:g}: {config.lr0:g} is for batch {config.lr_batch}, scaled to batch {config.batch}"


def _precision(config: TrainConfig) -> str:
    return "fp32" if config.precision == "fp32" else "bf16 autocast"


def _resumable(run: RunDir) -> Path:
    if not run.last.is_file():
        raise BadInput(f"--resume: {run.last} is not there; name the run with --project and --name")
    return run.last


def _resolved(config: TrainConfig, spec: ModelSpec, budget: Budget, threads: int, fabric: Fabric) -> dict[str, Any]:
    return {
        "imgsz_hw": list(spec.input.size_hw),
        "iterations": budget.iterations,
        "batches_per_epoch": budget.batches_per_epoch,
        "val_every": budget.val_every,
        "measured_ms": budget.measured_ms,
        "threads": threads,
        "processes": fabric.world_size,
        "device": str(fabric.device),
        "precision": _precision(config),
    }


def _finish(run: RunDir, trainer: Trainer, budget: Budget, seconds: float, threads: int) -> dict[str, Any]:
    best = load_checkpoint(run.best)
    result = {
        "run": str(run.path),
        "checkpoint": str(run.best),
        "sha256": best.sha256,
        "method": best.spec.method,
        "model": best.spec.architecture,
        "iterations": budget.iterations,
        "iterations_done": trainer.counters.iteration,
        "ended": trainer.ended(budget),
        "batch": trainer.config.batch,
        "threads": threads,
        "seconds": round(seconds, 1),
        "val": best.metrics,
        "splits": list(available_splits(trainer.config.data)),
    }
    run.write_json("summary.json", result)
    plot_curves(run.read_json(CURVES_NAME), run.path)
    return result

"""From a recipe to a finished run: prepare, begin or resume, finish."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import build, read_value
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.config import TrainConfig, make_config
from aweigh.train.data.division import Division
from aweigh.train.data.open import available_splits
from aweigh.train.evaluation.curves import CURVES_NAME, Curves, plot_curves
from aweigh.train.evaluation.metrics import Metrics
from aweigh.train.evaluation.predictors import TorchPredictor
from aweigh.train.loop.batches import training_batches
from aweigh.train.loop.budget import Budget, require_position
from aweigh.train.loop.learner import Learner
from aweigh.train.loop.optim import scaled_lr
from aweigh.train.loop.trainer import Trainer
from aweigh.train.loop.validation import Validator
from aweigh.train.models.deployable import Deployable
from aweigh.train.process.console import say
from aweigh.train.process.device import deterministic
from aweigh.train.process.memory import explain_out_of_memory
from aweigh.train.process.processes import SINGLE, this_process, together
from aweigh.train.run.batch_size import with_batch
from aweigh.train.run.data import class_list, images_by_split
from aweigh.train.run.fine_tune import load_weights
from aweigh.train.run.launch import train_on_devices
from aweigh.train.run.length import measure_budget
from aweigh.train.run.mosaics import TRAIN_NAME, VAL_NAME, draw_predictions, draw_training_batch
from aweigh.train.run.plan import Plan, prepare
from aweigh.train.run.record import OnEpoch, Record
from aweigh.train.run.result import TrainResult
from aweigh.train.tracking.counters import Counters
from aweigh.train.tracking.folder import SPLITS_NAME, SUMMARY_NAME, RunDir
from aweigh.train.tracking.loggers import make_logger


def train(
    recipe: TrainConfig | Mapping[str, Any], *, resume: bool = False, on_epoch: OnEpoch | None = None
) -> TrainResult:
    """Train a detector to the end of its recipe.

    In distributed training every process calls this (torchrun starts them, or this function itself where
    ``devices`` is above 1); only rank 0 writes files, prints and calls ``on_epoch``.

    Args:
        recipe: the settings by name, as the flags of ``aweigh train``; ``data`` is required.
        resume: go on with the run of ``project`` and ``name``, with its recorded recipe. ``data`` may be another place
            of the same data set.
        on_epoch: called with an :class:`~aweigh.train.loop.trainer.Epoch` at the end of every epoch, after its
            checkpoint was written. What it raises ends the run, which can be resumed.

    Returns:
        Folder, checkpoint with the best weights, and their metrics on the validation split; on every process.

    Raises:
        BadInput: a wrong setting, data set or file of weights, or a run of that name exists; no folder is made. Or
            another process writes into the run's folder.
        CannotRun: no such device, out of memory, or a process was lost.
        CheckFailed: a loss or gradient is not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run can be resumed.

    Example:
        >>> from aweigh.train import train
        >>> recipe = {"data": shapes, "model": "nano", "imgsz": 64, "epochs": 1, "project": tmp_path}
        >>> epochs = []
        >>> result = train({**recipe, "workers": 0, "threads": 1}, on_epoch=epochs.append)
        >>> result.iterations_done == epochs[-1].iteration
        True
        >>> epochs[-1].metrics["AP"] == result.val["AP"]
        True
    """
    config = recipe if isinstance(recipe, TrainConfig) else make_config(recipe, where="train")
    if config.devices > 1 and this_process() == SINGLE:
        if on_epoch is not None:
            raise BadInput(
                f"on_epoch: expected one process, or those that torchrun started; got devices={config.devices}"
            )
        train_on_devices(config, resume)
        return TrainResult.from_dict(RunDir(config.run_dir).read_json(SUMMARY_NAME))
    with together():
        return _train(config, resume, on_epoch)


@dataclass(frozen=True)
class Running:
    """A run whose folder is written and whose trainer is ready; ``record`` is rank 0's."""

    folder: RunDir
    trainer: Trainer
    record: Record | None


def _train(config: TrainConfig, resumed: bool, on_epoch: OnEpoch | None) -> TrainResult:
    with closing(RunDir(config.run_dir)) as folder:
        return _train_in(folder, config, resumed, on_epoch)


def _train_in(folder: RunDir, config: TrainConfig, resumed: bool, on_epoch: OnEpoch | None) -> TrainResult:
    plan = prepare(config, folder, resumed)
    with deterministic(plan.fabric.device):
        running = resume(plan, on_epoch) if resumed else begin(plan, on_epoch)
        trainer, success = running.trainer, False
        started = time.perf_counter()
        try:
            with explain_out_of_memory(trainer.config.batch, plan.spec.input.size_hw, plan.fabric.device):
                trainer.fit()
            success = True
        finally:
            if running.record is not None:
                running.record.close(success)
    result = None
    if plan.fabric.is_global_zero:
        result = finish(running, time.perf_counter() - started)
    return plan.fabric.broadcast(result)  # type: ignore[no-any-return]


def begin(plan: Plan, on_epoch: OnEpoch | None = None) -> Running:
    """Build the network of a new run, settle its batch and length, and make its folder."""
    learner = Learner(plan.config, plan.spec, plan.fabric)
    start = load_weights(learner.detector, learner.average, plan.spec, plan.config)
    learner.spec = replace(plan.spec, parents={**plan.spec.parents, **start.origin})
    config = with_batch(plan.config, learner, plan.dataset)
    validator = Validator(learner, plan.val, config.batch)
    with explain_out_of_memory(config.batch, plan.spec.input.size_hw, plan.fabric.device):
        budget = plan.fabric.broadcast(measure_budget(config, learner, plan.dataset, validator))
    counters, record = Counters(), None
    if plan.fabric.is_global_zero:
        plan.folder.create(config.exist_ok)
        if plan.division is not None:
            plan.folder.write_json(SPLITS_NAME, images_by_split(config, plan.division))
        taken = None if start.transfer is None else start.transfer.to_dict()
        record = _open_record(plan, config, learner, budget, counters, taken, on_epoch)
        _draw_first_batch(plan, config)
    trainer = Trainer(config, learner, plan.dataset, validator, budget, counters, plan.threads, record)
    return Running(plan.folder, trainer, record)


def _draw_first_batch(plan: Plan, config: TrainConfig) -> None:
    """What the network is about to see: faults in boxes and augmentation show before the run is over."""
    # Without worker processes: they would be started for a single batch.
    with closing(iter(training_batches(replace(config, workers=0), plan.dataset, plan.fabric))) as batches:
        try:
            draw_training_batch(next(batches), plan.spec.categories, plan.folder.path / TRAIN_NAME)
        except OSError as error:  # no reason to end a training; where the disk is full, the checkpoint says so
            say(f"the first batch is not drawn: {error}")


def resume(plan: Plan, on_epoch: OnEpoch | None = None) -> Running:
    """Go on from the recorded state of a run that was stopped."""
    learner = Learner(plan.config, plan.spec, plan.fabric)
    last = str(plan.folder.last)
    learner.take_state(plan.recorded, last)
    counters: Counters = build(Counters, plan.recorded.get("counters"), f"{last}: counters")
    budget: Budget = build(Budget, plan.recorded.get("budget"), f"{last}: budget")
    require_position(counters, budget, last)
    record = None
    if plan.fabric.is_global_zero:
        taken = plan.folder.recorded("transfer")
        plan.folder.rows()  # now, and not after the first epoch, the time to say that they cannot be read
        record = _open_record(plan, plan.config, learner, budget, counters, taken, on_epoch)
    validator = Validator(learner, plan.val, plan.config.batch)
    trainer = Trainer(plan.config, learner, plan.dataset, validator, budget, counters, plan.threads, record)
    if ended := trainer.ended():
        say(f"{plan.folder.path}: this run is finished ({ended}); nothing is left to do")
    else:
        say(f"--resume: goes on after iteration {counters.iteration} of {budget.iterations}, from {last}")
    return Running(plan.folder, trainer, record)


def _open_record(
    plan: Plan,
    config: TrainConfig,
    learner: Learner,
    budget: Budget,
    counters: Counters,
    transfer: Mapping[str, Any] | None,
    on_epoch: OnEpoch | None,
) -> Record:
    """Write args.yaml and env.json, print what the run does, and open its logger."""
    device, size_hw = plan.fabric.device, plan.spec.input.size_hw
    resolved = {
        "imgsz_hw": list(size_hw),
        "iterations": budget.iterations,
        "batches_per_epoch": budget.batches_per_epoch,
        "val_every": budget.val_every,
        "measured_ms": budget.measured_ms,
        "threads": plan.threads,
        "processes": plan.fabric.world_size,
        "device": str(device),
        "precision": _precision(config),
        "options": learner.method_options(),
        "chosen_options": plan.folder.recorded("chosen_options") if plan.recorded else dict(plan.chosen),
        "transfer": transfer,
    }
    plan.folder.write_args({**config.to_dict(), "resolved": resolved})
    plan.folder.write_env(str(device), plan.threads)
    say(
        f"{config.model} {config.method}: {len(plan.dataset)} images, {len(plan.spec.categories)} classes, "
        f"input {size_hw[1]}x{size_hw[0]}, {budget.iterations} iterations "
        f"({budget.epochs} epochs) on {device} in {_precision(config)}, {config.run_dir}"
    )
    say(class_list(plan.dataset.split))
    say(_learning_rate(config))
    logger = make_logger(config.logger, plan.folder.path, config.to_dict(), counters.iteration)
    return Record(plan.folder, logger, f"{config.name}: {config.method}", on_epoch)


def finish(running: Running, seconds: float) -> TrainResult:
    """Write summary.json, and draw the curves and detections of the best weights; on rank 0.

    Args:
        seconds: of training.
    """
    folder, trainer = running.folder, running.trainer
    best = load_checkpoint(folder.best)
    result = TrainResult(
        run=str(folder.path),
        checkpoint=str(folder.best),
        sha256=best.sha256,
        method=best.spec.method,
        model=best.spec.architecture,
        iterations=trainer.budget.iterations,
        iterations_done=trainer.counters.iteration,
        ended=trainer.ended(),
        batch=trainer.config.batch,
        threads=trainer.threads,
        seconds=round(seconds, 1),
        val=Metrics.from_dict(best.metrics),
        val_iteration=read_value(int, best.metrics.get("iteration"), f"{folder.best}: iteration"),
        splits=available_splits(trainer.config.data, Division.of(best.spec.held_out)),
    )
    folder.write_json(SUMMARY_NAME, result.to_dict())
    plot_curves(Curves.from_dict(folder.read_json(CURVES_NAME)), folder.path)
    network = TorchPredictor(Deployable(best.detector(), best.spec.post), best.spec, trainer.learner.fabric.device)
    draw_predictions(network, trainer.validator.split, folder.path / VAL_NAME)
    return result


def _learning_rate(config: TrainConfig) -> str:
    peak = scaled_lr(config.lr0, config.batch, config.lr_batch)
    if config.lr_batch in (0, config.batch):
        return f"learning rate {peak:g}, batch {config.batch}"
    return f"learning rate {peak:g}: {config.lr0:g} is for batch {config.lr_batch}, scaled to batch {config.batch}"


def _precision(config: TrainConfig) -> str:
    return "fp32" if config.precision == "fp32" else "bf16 autocast"

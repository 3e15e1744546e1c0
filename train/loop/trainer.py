"""The training loop: steps, validations and checkpoints, to the end of the budget."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from aweigh.runtime.errors import CheckFailed
from aweigh.runtime.machine.interrupt import first_interrupt
from aweigh.train.checkpoint import Checkpoint
from aweigh.train.config import TrainConfig
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.loading.loader import Batch
from aweigh.train.evaluation.metrics import Metrics
from aweigh.train.loop.batches import training_batches
from aweigh.train.loop.budget import Budget
from aweigh.train.loop.learner import Learner
from aweigh.train.loop.optim import Schedule, scaled_lr
from aweigh.train.loop.step import Launched, NotFinite, Step, fetch
from aweigh.train.loop.validation import Validation, Validator
from aweigh.train.process.console import TrainingProgress
from aweigh.train.process.processes import any_process, gather
from aweigh.train.tracking.counters import Counters

# A long epoch is saved in between as well; when, does not matter to what a resumed run computes.
SAVE_SECONDS = 300.0
LOG_EVERY = 10  # iterations between the losses of single steps, for loggers other than results.csv
FETCH_EVERY = 10  # iterations between two looks at the losses of a GPU, which a look would keep waiting
# Why a run ended.
ITERATIONS, PATIENCE = "iterations", "patience"


@dataclass(frozen=True)
class Epoch:
    """The state of a run at the end of an epoch.

    Attributes:
        epoch: epochs done, of ``epochs``; a run of so many iterations may end within its last epoch.
        iteration: steps done, of ``iterations``.
        losses: mean loss terms of the steps since the last validation.
        metrics: of the averaged weights on the validation split; None where the epoch ends without a validation.
        best: whether they are the best weights so far.
    """

    epoch: int
    epochs: int
    iteration: int
    iterations: int
    losses: Mapping[str, float]
    metrics: Metrics | None
    best: bool


@dataclass(frozen=True)
class _Awaited:
    """A step whose numbers lie on the device: where it stands in the run, its images and its learning rate."""

    launched: Launched
    iteration: int  # counted from 0
    epoch: int
    record_index: Tensor
    lr: float


class Listener(Protocol):
    """Gets what a run computes, on rank 0 only."""

    def stepped(self, iteration: int, losses: Mapping[str, float]) -> None:
        """The loss terms of one step in LOG_EVERY."""

    def validated(self, validation: Validation) -> None:
        """A validation."""

    def saved(self, checkpoint: Checkpoint) -> None:
        """The state from which the run can be resumed."""

    def epoch_ended(self, epoch: Epoch) -> None:
        """The end of an epoch, after its validation and checkpoint."""


class Trainer:
    """One run; :meth:`fit` takes it to its end. Each of several processes has a trainer.

    Args:
        config: the recipe, with its batch size.
        learner: the network.
        dataset: the training split.
        validator: used every ``budget.val_every`` epochs and at the end.
        budget: length of the run.
        counters: where the run stands; the trainer counts on in them.
        threads: recorded in the checkpoint.
        listener: of rank 0; None on the other processes.
    """

    def __init__(
        self,
        config: TrainConfig,
        learner: Learner,
        dataset: DetectionDataset,
        validator: Validator,
        budget: Budget,
        counters: Counters,
        threads: int,
        listener: Listener | None,
    ) -> None:
        self.config, self.learner, self.dataset, self.validator = config, learner, dataset, validator
        self.budget, self.counters, self.threads, self.listener = budget, counters, threads, listener
        c = config
        self._schedule = Schedule(
            c.schedule, c.lrf, c.steps, c.warmup, c.warmup_iterations, c.warmup_from, c.warmup_kind
        )
        self._fetch_every = FETCH_EVERY if learner.runs_ahead else 1
        self._awaited: list[_Awaited] = []
        self._totals: deque[float] = deque(maxlen=20)  # losses of the last steps, for the message of a failure

    def fit(self) -> None:
        """Train to the end of the budget; Ctrl-C and SIGTERM leave a run that can be resumed.

        Raises:
            CheckFailed: a loss or gradient is not finite; the last good checkpoint stays.
            KeyboardInterrupt: interrupted, after the step was finished and saved.
        """
        counters, budget, fabric = self.counters, self.budget, self.learner.fabric
        loader = training_batches(self.config, self.dataset, fabric, counters.epoch, counters.batch)
        with first_interrupt() as interrupt, TrainingProgress(budget.iterations, counters.iteration) as progress:
            self._save()  # a run killed in its first epoch can be resumed too
            if self.ended() is not None:
                return
            saved, line = time.monotonic(), ""
            for batch in progress.waited(loader):
                if counters.iteration >= budget.iterations:
                    break
                self.launch(batch)
                finished = counters.iteration == budget.iterations
                epoch_ends = counters.batch == 0 or finished
                # Nothing is recorded, validated or saved before the numbers of all steps so far are known.
                look = epoch_ends or counters.iteration % self._fetch_every == 0
                if look or (fabric.world_size == 1 and interrupt.is_set()):
                    line = _losses_line(self.fetch())
                    look = True
                rate = progress.advance(counters.iteration, self.config.batch, line)
                if not look:
                    continue
                event = self._epoch() if epoch_ends else None
                if finished or (epoch_ends and counters.epoch % budget.val_every == 0):
                    with progress.paused():
                        event = self._validate(rate, progress)
                interrupted, due = any_process(fabric, interrupt.is_set(), time.monotonic() - saved > SAVE_SECONDS)
                if epoch_ends or interrupted or due:
                    self._save()
                    saved = time.monotonic()
                if event is not None and self.listener is not None:
                    with progress.paused():
                        self.listener.epoch_ended(event)
                if interrupted and not finished:
                    fabric.barrier()  # the launcher may end the other processes as soon as one ends
                    progress.say(f"interrupted at iteration {counters.iteration}; go on with --resume")
                    raise KeyboardInterrupt
                if epoch_ends and self.ended() == PATIENCE:
                    progress.say(f"no better AP in {counters.stale} validations: stopping")
                    break

    def ended(self) -> str | None:
        """Why the run is at its end: ``iterations`` or ``patience``; None where it is not."""
        if self.counters.iteration >= self.budget.iterations:
            return ITERATIONS
        return PATIENCE if 0 < self.config.patience <= self.counters.stale else None

    def launch(self, batch: Batch) -> None:
        """Ask for the next step of the run. Raises CheckFailed as :meth:`fetch`, where the learner looks at once."""
        counters, iterations = self.counters, self.budget.iterations
        iteration, epoch = counters.iteration, counters.epoch
        peak = scaled_lr(self.config.lr0, self.config.batch, self.config.lr_batch)
        lr = peak * self._schedule(iteration, iterations)
        try:
            launched = self.learner.launch(batch, iteration, iteration / max(1, iterations - 1), lr)
        except NotFinite as error:
            raise self._explained(error, iteration, epoch, batch.record_index) from error
        self._awaited.append(_Awaited(launched, iteration, epoch, batch.record_index, self.learner.lr))
        counters.count_step(self.budget.batches_per_epoch)

    def fetch(self) -> Mapping[str, float]:
        """Count the losses of the steps since the last call, which the host waits for; returns those of the last step.

        Raises:
            CheckFailed: a loss or gradient of one of them was not finite; the weights are those from before it.
        """
        awaited, self._awaited = self._awaited, []
        losses: Mapping[str, float] = {}
        for one, values in zip(awaited, fetch([one.launched for one in awaited]), strict=True):
            try:
                losses = self._count(one.launched.outcome(values), one.iteration + 1)
            except NotFinite as error:
                raise self._explained(error, one.iteration, one.epoch, one.record_index, one.lr) from error
        return losses

    def _count(self, step: Step, done: int) -> Mapping[str, float]:
        """Record the losses of a step, the ``done``-th of the run."""
        self._totals.append(sum(step.losses.values()))
        self.counters.count_losses(step.losses, step.assigned)
        if self.listener is not None and done % LOG_EVERY == 0:
            self.listener.stepped(done, step.losses)
        return step.losses

    def _explained(
        self, error: NotFinite, iteration: int, epoch: int, record_index: Tensor, lr: float | None = None
    ) -> CheckFailed:
        shares = gather([self.dataset.split.records[int(i)].path.name for i in record_index])
        images = [name for share in shares for name in share]
        return CheckFailed(
            f"{error.what} is not finite at iteration {iteration} (epoch {epoch}): "
            f"{error.values}; learning rate {self.learner.lr if lr is None else lr:.2g}, "
            f"total loss of the steps before {[round(total, 3) for total in self._totals][-5:]}, "
            f"images {images}. The last good checkpoint is kept in {self.config.run_dir / 'weights'}. "
            "Lower --lr0, lengthen --warmup, or try --precision fp32"
        )

    def _validate(self, rate: float, progress: TrainingProgress) -> Epoch:
        counters, budget = self.counters, self.budget
        validation = self.validator(counters, rate)
        event = self._epoch(validation)
        counters.count_validation(validation.metrics["AP"] or 0.0)
        if self.listener is not None:
            self.listener.validated(validation)
        progress.say(
            f"epoch {counters.epoch}/{budget.epochs} iteration {counters.iteration}/{budget.iterations} "
            + " ".join(f"{name} {value:.3f}" for name, value in validation.shown.items() if value is not None)
            + f" ({', '.join(filter(None, (f'{rate:.0f} images/s', progress.left)))})"
        )
        return event

    def _epoch(self, validation: Validation | None = None) -> Epoch:
        counters, budget = self.counters, self.budget
        metrics, best = (None, False) if validation is None else (validation.metrics, validation.best is not None)
        return Epoch(
            counters.epoch,
            budget.epochs,
            counters.iteration,
            budget.iterations,
            counters.mean_losses(),
            metrics,
            best,
        )

    def _save(self) -> None:
        """Every process takes part; the listener of rank 0 writes."""
        self.learner.share_statistics()
        if self.listener is None:
            return
        training: dict[str, Any] = {
            **self.learner.state(),
            "counters": dict(vars(self.counters)),
            "config": self.config.to_dict(),
            "budget": dict(vars(self.budget)),
            "threads": self.threads,
            "processes": self.learner.fabric.world_size,
        }
        self.listener.saved(self.learner.checkpoint({}, training))


def _losses_line(losses: Mapping[str, float]) -> str:
    return " ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in losses.items())

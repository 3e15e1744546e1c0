"""The length of a run in iterations: from epochs, or from minutes, measured once at the start."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import shown
from aweigh.train.data.loading.loader import Batch
from aweigh.train.tracking.counters import Counters

_WARM_UP, _TIMED = 3, 8


@dataclass(frozen=True)
class Budget:
    """Length of a run.

    Attributes:
        iterations: of the whole run.
        batches_per_epoch: iterations of one pass over the data.
        val_every: epochs between validations.
        measured_ms: of one iteration, where the length was given in minutes.
    """

    iterations: int
    batches_per_epoch: int
    val_every: int
    measured_ms: float | None = None

    @property
    def epochs(self) -> int:
        return -(-self.iterations // self.batches_per_epoch)


def require_position(counters: Counters, budget: Budget, where: str) -> None:
    """Raises BadInput for a place and a length that no run has; ``where`` begins the message."""
    whole = (counters.iteration, counters.epoch, counters.batch, counters.stale, counters.terms)
    length = (budget.iterations, budget.batches_per_epoch, budget.val_every)
    done = counters.epoch * budget.batches_per_epoch + counters.batch
    counted = not counters.sums or counters.terms
    pairs = all(len(sums) == 2 for sums in counters.assigned.values())
    if min(whole) < 0 or min(length) < 1 or done != counters.iteration or not counted or not pairs:
        raise BadInput(f"{where}: its counters {shown(vars(counters))} do not fit its length {shown(vars(budget))}")


def from_epochs(epochs: int, batches_per_epoch: int, val_every: int) -> Budget:
    return Budget(epochs * batches_per_epoch, batches_per_epoch, val_every or spread(epochs))


def from_iterations(iterations: int, batches_per_epoch: int, val_every: int) -> Budget:
    """The last epoch may be part of one."""
    epochs = -(-iterations // batches_per_epoch)
    return Budget(iterations, batches_per_epoch, val_every or spread(epochs))


def from_minutes(
    minutes: float,
    batches_per_epoch: int,
    val_every: int,
    batches: Iterable[Batch],
    step: Callable[[Batch], object],
    validation_seconds: Callable[[], float],
) -> Budget:
    """Time real steps (their effect must be undone by the caller) and turn the minutes into iterations.

    The count, not the clock, then decides when the run ends: the same seed gives the same weights, however loaded the
    machine is.
    """
    times = []
    for i, batch in enumerate(batches):
        start = time.perf_counter()
        step(batch)
        if i >= _WARM_UP:
            times.append(time.perf_counter() - start)
        if len(times) == _TIMED:
            break
    seconds = statistics.mean(sorted(times)[: _TIMED - 1])  # without the slowest
    wanted = minutes * 60
    rough = max(1, round(wanted / seconds / batches_per_epoch))
    every = val_every or spread(rough)
    validations = max(1, rough // every)
    # At least half of the time trains, however slow validation is.
    training = max(wanted / 2, wanted - validations * validation_seconds())
    iterations = max(1, int(training / seconds))
    epochs = -(-iterations // batches_per_epoch)
    return Budget(iterations, batches_per_epoch, val_every or spread(epochs), seconds * 1000)


def spread(epochs: int) -> int:
    """Epochs between validations, for about twelve in the run."""
    return max(1, round(epochs / 12))

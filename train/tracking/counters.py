"""How far a training run has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aweigh.train.tracking import telemetry


@dataclass
class Counters:
    """The position of a run; JSON values, kept in the checkpoint.

    Attributes:
        iteration: steps done.
        epoch, batch: the next batch, in the sampler's terms.
        best: highest validation AP so far.
        stale: validations since then.
        sums: of the loss terms over ``terms`` steps since the last row of results.csv.
        assigned: what the assignment did in some of these steps (:mod:`aweigh.train.tracking.telemetry`).
    """

    iteration: int = 0
    epoch: int = 0
    batch: int = 0
    best: float = -1.0
    stale: int = 0
    terms: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    assigned: telemetry.Sums = field(default_factory=dict)

    def count_step(self, batches_per_epoch: int) -> None:
        """Count a step; its losses are counted when they are known, before anything is recorded."""
        self.iteration += 1
        self.batch += 1
        if self.batch == batches_per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0

    def count_losses(self, losses: Mapping[str, float], assigned: telemetry.Sums) -> None:
        """Count the loss terms of a step, and what its assignment did."""
        self.terms += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        telemetry.add(self.assigned, assigned)

    def mean_losses(self) -> dict[str, float]:
        """Mean loss terms since the last row of results.csv."""
        return {name: total / self.terms for name, total in self.sums.items()}

    def count_validation(self, ap: float) -> None:
        """Count a validation with its AP; the sums start afresh."""
        self.stale = 0 if ap > self.best else self.stale + 1
        self.best = max(ap, self.best)
        self.terms, self.sums, self.assigned = 0, {}, {}

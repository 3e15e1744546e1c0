"""How far a training run has come."""

from __future__ import annotations

from dataclasses import dataclass, field

from aweigh.train.tracking import telemetry


@dataclass
class Counters:
    """Where a run stands; JSON, kept in the checkpoint.

    Attributes:
        iteration: steps done.
        epoch, batch: the next batch, in the sampler's terms.
        best: highest validation AP so far, and validations since.
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

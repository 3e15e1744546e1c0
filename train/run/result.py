"""The result of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aweigh.train.evaluation.metrics import Metrics


@dataclass(frozen=True)
class TrainResult:
    """A finished run, as summary.json keeps it.

    Attributes:
        run: folder of the run.
        checkpoint: file with the best weights.
        sha256: of that file.
        method, model: as in the recipe.
        iterations: length of the run.
        iterations_done: fewer where ``patience`` ended it.
        ended: ``iterations`` or ``patience``; None where the run was not at its end.
        batch: images per step.
        threads: of each process.
        seconds: of training; of the last part where the run was resumed.
        val: metrics of the best weights on the validation split, of the iteration ``val_iteration``.
        splits: of the data set.
    """

    run: str
    checkpoint: str
    sha256: str
    method: str
    model: str
    iterations: int
    iterations_done: int
    ended: str | None
    batch: int
    threads: int
    seconds: float
    val: Metrics
    val_iteration: int
    splits: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As in summary.json and ``aweigh train --json``."""
        values = {name: value for name, value in vars(self).items() if name != "val_iteration"}
        val = {**self.val.to_dict(), "iteration": self.val_iteration}
        return {**values, "val": val, "splits": list(self.splits)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainResult:
        """What ``to_dict`` gave."""
        val = content["val"]
        parsed = {"val": Metrics.from_dict(val), "val_iteration": val["iteration"], "splits": tuple(content["splits"])}
        return cls(**{**content, **parsed})

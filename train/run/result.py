"""The result of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import build, shown
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

    def __repr__(self) -> str:
        ap = self.val["AP"]
        reached = "no objects in val" if ap is None else f"AP {ap:.3f} on val after iteration {self.val_iteration}"
        return f"<TrainResult {self.checkpoint}: {self.model} {self.method}, {reached}>"

    def to_dict(self) -> dict[str, Any]:
        """As in summary.json and ``aweigh train --json``."""
        values = {name: value for name, value in vars(self).items() if name != "val_iteration"}
        val = {**self.val.to_dict(), "iteration": self.val_iteration}
        return {**values, "val": val, "splits": list(self.splits)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainResult:
        """What ``to_dict`` gave. Raises BadInput for anything else."""
        val = content.get("val") if isinstance(content, Mapping) else None
        if not isinstance(val, Mapping):
            raise BadInput(f"result of a run: expected an object with the metrics val, got {shown(content)}")
        parsed = {"val": Metrics.from_dict(val), "val_iteration": val.get("iteration")}
        result: TrainResult = build(cls, {**content, **parsed}, "result of a run")
        return result

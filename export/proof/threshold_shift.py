"""How far score thresholds must be moved to go on reporting the same detections with the exported file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aweigh.export.proof.checks import Check, Part
from aweigh.runtime.agreement.tolerances import Tolerances
from aweigh.train.evaluation.metrics import Metrics, ResultRow


@dataclass(frozen=True)
class ThresholdShift:
    """The best score threshold of a class, and what takes its place in the exported file.

    Attributes:
        name: of the class.
        trained, exported: thresholds, 0 to 1.
        detections: of the trained model, at or above its threshold.
        shift: exported minus trained.
    """

    name: str
    trained: float
    exported: float
    detections: int
    shift: float


def threshold_shifts(
    metrics: Metrics, trained: Sequence[ResultRow], exported: Sequence[ResultRow]
) -> dict[str, ThresholdShift]:
    """By category id; a class without a best threshold (no objects, or no detections) is left out.

    The best threshold of each file would not do: F1 is flat around its maximum, and the last digit moves it far. So the
    exported file's is the score above which it reports as many detections of the class.

    Args:
        metrics: of the trained model, with the best threshold of each class.
        trained, exported: COCO result rows of the same images.
    """
    shifts = {}
    for row in metrics.per_class:
        if row.best is None or row.best.score is None:
            continue
        best = row.best.score
        ours, theirs = (
            -np.sort([-one["score"] for one in rows if one["category_id"] == row.id]) for rows in (trained, exported)
        )
        count = int((ours >= best).sum())
        # Too few detections in the exported file: no threshold of its own gives as many.
        instead = float(theirs[count - 1]) if len(theirs) >= count else 0.0
        shifts[str(row.id)] = ThresholdShift(row.name, best, instead, count, instead - best)
    return shifts


def check_thresholds(shifts: Mapping[str, ThresholdShift], tolerances: Tolerances) -> list[Check]:
    """The largest shift of a class's score threshold."""
    worst = max(shifts.values(), key=lambda shift: abs(shift.shift), default=None)
    if worst is None:
        return []
    measured = f"{worst.shift:+.4f} ({worst.name}: {worst.trained:.3f} to {worst.exported:.3f})"
    passed = abs(worst.shift) <= tolerances.score
    return [Check("score threshold", passed, measured, f"{tolerances.score}", Part.THRESHOLDS)]

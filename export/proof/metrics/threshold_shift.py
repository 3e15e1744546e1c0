"""How far score thresholds must be moved to go on reporting the same detections with the exported file."""

from __future__ import annotations

import math
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
        missing: of ``detections``, how many more than the exported file reports of the class at any threshold.
    """

    name: str
    trained: float
    exported: float
    detections: int
    shift: float
    missing: int = 0


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
        missing = max(0, count - len(theirs))
        shifts[str(row.id)] = ThresholdShift(row.name, best, instead, count, instead - best, missing)
    return shifts


def check_thresholds(shifts: Mapping[str, ThresholdShift], tolerances: Tolerances) -> list[Check]:
    """The largest shift of a class's score threshold, and whether every class is still found.

    A class that is gone has no threshold in the exported file, and where its scores were low its detections are all
    borderline: so they are counted, and as many may be missing as may be lost of all detections, or a single one.
    """
    if not shifts:
        return []
    worst = max(shifts.values(), key=lambda shift: abs(shift.shift))
    measured = f"{worst.shift:+.4f} ({worst.name}: {worst.trained:.3f} to {worst.exported:.3f})"
    passed = abs(worst.shift) <= tolerances.score
    rarer = max(shifts.values(), key=lambda shift: shift.missing - _may_miss(shift, tolerances))
    few = _may_miss(rarer, tolerances)
    found = f"{rarer.missing} of {rarer.detections} missing ({rarer.name})"
    return [
        Check("score threshold", passed, measured, f"{tolerances.score}", Part.THRESHOLDS),
        Check("classes", rarer.missing <= few, found, f"at most {few}", Part.THRESHOLDS),
    ]


def _may_miss(shift: ThresholdShift, tolerances: Tolerances) -> int:
    return max(1, math.floor(tolerances.share * shift.detections))

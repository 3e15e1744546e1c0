"""How far score thresholds must be moved to go on reporting the same detections with the exported file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aweigh.train.evaluation.metrics import Metrics, ResultRow


def threshold_shifts(
    metrics: Metrics, trained: Sequence[ResultRow], exported: Sequence[ResultRow]
) -> dict[str, dict[str, Any]]:
    """By category id: the trained model's best threshold, and what takes its place in the exported file.

    The best threshold of each file would not do: F1 is flat around its maximum, and the last digit moves it far. So the
    exported file's is the score above which it reports as many detections of the class.

    Args:
        metrics: of the trained model, with ``best_threshold`` per class.
        trained, exported: COCO result rows of the same images.

    Returns:
        ``name``, ``trained``, ``exported`` (thresholds, 0 to 1), ``detections`` (at or above them) and ``shift``; a
        class that has no best threshold (nothing to find, or nothing found) is left out.
    """
    shifts = {}
    for row in metrics.per_class:
        best = None if row.best is None else row.best.score
        ours, theirs = (
            -np.sort([-one["score"] for one in rows if one["category_id"] == row.id]) for rows in (trained, exported)
        )
        if best is None:
            continue
        count = int((ours >= best).sum())
        # Too few detections in the exported file: no threshold of its own gives as many.
        found = float(theirs[count - 1]) if len(theirs) >= count else 0.0
        shifts[str(row.id)] = {
            "name": row.name,
            "trained": best,
            "exported": found,
            "detections": count,
            "shift": found - best,
        }
    return shifts

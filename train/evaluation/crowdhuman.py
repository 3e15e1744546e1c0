"""The metrics of CrowdHuman (arXiv 1805.00123): AP, log-average miss rate and recall at IoU 0.5.

As its evaluation kit computes them: by falling score, a detection is a hit where its IoU with an object that has no
detection yet is above 0.5 (the object with the highest IoU); else it is ignored where more than half of it lies in an
ignored region (of another kind than persons, or marked so); else it is a false alarm. Difficult objects of other
formats are ignored regions too. Boxes of objects and detections are clipped at the image's border.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aweigh.runtime.boxes import overlap
from aweigh.train.data.records import Split
from aweigh.train.evaluation.metrics import Metrics, ResultRow
from aweigh.train.evaluation.ranking import FALSE_ALARM, HIT, IGNORED, Floats, Outcomes, Ranking, class_means

IOU = 0.5
# False alarms per image, evenly spread over the logarithm from 0.01 to 1, as rounded by the kit.
REFERENCES = (0.0100, 0.0178, 0.0316, 0.0562, 0.1000, 0.1778, 0.3162, 0.5623, 1.0)
_LEAST_MISS_RATE = 1e-10  # the logarithm of 0 is none


def crowdhuman_metrics(split: Split, results: Sequence[ResultRow]) -> Metrics:
    """``AP50``, ``MR`` (MR^-2, lower is better) and ``recall``, means over the classes that have objects.

    Args:
        results: detections of all images of the split.
    """
    measures = {"AP50": average_precision, "MR": log_average_miss_rate, "recall": final_recall}
    return class_means(split, results, _outcomes, measures)


def final_recall(ranking: Ranking) -> float:
    """Share of the objects that have a detection."""
    return float(ranking.recall[-1]) if len(ranking.hit) else 0.0


def average_precision(ranking: Ranking) -> float:
    """Area under the curve of precision over recall as it is, by trapezoids, from the first detection on."""
    precision, recall = ranking.precision, ranking.recall
    return float(np.sum(np.diff(recall) * (precision[1:] + precision[:-1]) / 2))


def log_average_miss_rate(ranking: Ranking) -> float:
    """Geometric mean of the miss rate where the false alarms per image first reach each reference.

    Where they never do, the miss rate of all detections counts.
    """
    if not len(ranking.hit):
        return 1.0
    at = np.searchsorted(ranking.false_per_image, REFERENCES)
    missed = 1.0 - ranking.recall[np.minimum(at, len(ranking.hit) - 1)]
    return float(np.exp(np.log(np.maximum(missed, _LEAST_MISS_RATE)).mean()))


def _outcomes(boxes_xyxy: Floats, truths_xyxy: Floats, ignored_xyxy: Floats) -> Outcomes:
    iou = overlap(boxes_xyxy[:, None], truths_xyxy)
    in_ignored = (overlap(boxes_xyxy[:, None], ignored_xyxy, "ioa") > IOU).any(axis=1)
    outcomes = np.where(in_ignored, IGNORED, FALSE_ALARM).astype(np.int8)
    for i, row in enumerate(iou):
        if row.size and row.max() > IOU:
            outcomes[i] = HIT
            iou[:, row.argmax()] = 0.0  # matched
    return outcomes

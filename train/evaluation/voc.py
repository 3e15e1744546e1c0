"""Average precision as the PASCAL VOC challenges define it (their development kits, 2007 and 2010 to 2012).

A detection is a hit where the object it overlaps most has an IoU of at least 0.5 and has no better detection yet; a
second one on the same object is a false alarm. Difficult objects, and COCO's crowds, which VOC does not have, count
neither way.

Boxes are taken as continuous: the kits add a pixel to each side, which changes an IoU near 0.5 of small boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aweigh.runtime.boxes import overlap
from aweigh.train.data.records import Split
from aweigh.train.evaluation.metrics import Metrics, ResultRow
from aweigh.train.evaluation.ranking import FALSE_ALARM, HIT, IGNORED, Floats, Outcomes, Ranking, class_means

IOU = 0.5


def voc_metrics(split: Split, results: Sequence[ResultRow]) -> Metrics:
    """``mAP`` (area under the curve, since 2010) and ``mAP07`` (11 points), over the classes that have objects.

    Args:
        results: detections of all images of the split.
    """
    return class_means(split, results, _outcomes, {"mAP": area_under_curve, "mAP07": eleven_points})


def area_under_curve(ranking: Ranking) -> float:
    """Area under the precision made monotonic: at each recall the highest precision at it or beyond."""
    best = np.maximum.accumulate(ranking.precision[::-1])[::-1]
    return float(np.sum(np.diff(ranking.recall, prepend=0.0) * best))


def eleven_points(ranking: Ranking) -> float:
    """Mean of the highest precision at or beyond the recalls 0, 0.1, ..., 1."""
    hits, objects = np.cumsum(ranking.hit), ranking.truths
    # Compared in whole objects: 3 of 10 are a recall of 0.3, whatever the floats say.
    reached = [ranking.precision[hits * 10 >= tenth * objects] for tenth in range(11)]
    return float(np.mean([precision.max(initial=0.0) for precision in reached]))


def _outcomes(boxes_xyxy: Floats, truths_xyxy: Floats, ignored_xyxy: Floats) -> Outcomes:
    iou = overlap(boxes_xyxy[:, None], np.concatenate((truths_xyxy, ignored_xyxy)))
    outcomes = np.full(len(boxes_xyxy), FALSE_ALARM, np.int8)
    taken = np.zeros(len(truths_xyxy), np.bool_)
    for i, row in enumerate(iou):
        if not row.size or row.max() < IOU:
            continue
        nearest = int(row.argmax())
        if nearest >= len(truths_xyxy):
            outcomes[i] = IGNORED
        elif not taken[nearest]:
            taken[nearest], outcomes[i] = True, HIT
    return outcomes

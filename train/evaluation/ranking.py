"""All detections of a class in the order of their scores, each one a hit, a false alarm, or ignored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aweigh.train.data.records import ImageRecord, Split
from aweigh.train.evaluation.metrics import ClassMetrics, Metrics, ResultRow

Floats = npt.NDArray[np.float64]
Outcomes = npt.NDArray[np.int8]
HIT, FALSE_ALARM, IGNORED = 1, 0, -1
# Of one image and class: detections [D, 4] by falling score, objects that count [T, 4], and boxes [R, 4] that count
# neither for nor against, to the outcome [D] of each detection.
Rule = Callable[[Floats, Floats, Floats], Outcomes]


@dataclass(frozen=True)
class Ranking:
    """Detections of one class over a split, those to be ignored left out.

    Attributes:
        hit: [N] bool, by falling score; of equal scores in the order of the images.
        truths: number of objects that count.
        images: number of images.
    """

    hit: npt.NDArray[np.bool_]
    truths: int
    images: int

    @property
    def recall(self) -> Floats:
        """[N] after each detection."""
        return np.cumsum(self.hit) / max(1, self.truths)

    @property
    def precision(self) -> Floats:
        """[N] after each detection."""
        return np.cumsum(self.hit) / np.arange(1, len(self.hit) + 1)

    @property
    def false_per_image(self) -> Floats:
        """[N] false alarms so far, per image."""
        return np.cumsum(~self.hit) / max(1, self.images)


def class_means(
    split: Split,
    results: Sequence[ResultRow],
    rule: Rule,
    measures: Mapping[str, Callable[[Ranking], float]],
) -> Metrics:
    """Metrics of each class, and their means over the classes that have objects (None where none has).

    Args:
        measures: a metric, 0 to 1, from a ranking, by the metric's name.
    """
    rows = []
    for label, ranking in rankings(split, results, rule):
        category = split.categories[label]
        values = {name: measure(ranking) if ranking.truths else None for name, measure in measures.items()}
        rows.append(ClassMetrics(category.id, category.name, values))
    known = {name: [value for row in rows if (value := row[name]) is not None] for name in measures}
    means = {name: float(np.mean(values)) if values else None for name, values in known.items()}
    return Metrics(means, tuple(rows), len(split.records))


def rankings(split: Split, results: Sequence[ResultRow], rule: Rule) -> Iterator[tuple[int, Ranking]]:
    """(label, ranking) of every class.

    Args:
        results: detections of all images of the split.
    """
    by_image: dict[tuple[int | str, int], list[ResultRow]] = {}
    for row in results:
        by_image.setdefault((row["image_id"], row["category_id"]), []).append(row)
    for label, category in enumerate(split.categories):
        scores, outcomes, truths = [np.zeros(0)], [np.zeros(0, np.int8)], 0
        for record in split.records:
            rows = sorted(by_image.get((record.image_id, category.id), []), key=lambda row: -row["score"])
            boxes_xywh = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
            boxes_xyxy = np.concatenate((boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]), axis=1)
            wanted, ignored = _truths(record, label)
            truths += len(wanted)
            scores.append(np.array([row["score"] for row in rows], np.float64))
            outcomes.append(rule(boxes_xyxy, wanted, ignored))
        ranked = np.concatenate(outcomes)[np.argsort(-np.concatenate(scores), kind="stable")]
        yield label, Ranking(ranked[ranked != IGNORED] == HIT, truths, len(split.records))


def _truths(record: ImageRecord, label: int) -> tuple[Floats, Floats]:
    """Boxes that count, and those that count neither for nor against."""
    boxes, of_class = record.boxes_xyxy.astype(np.float64), record.labels == label
    return boxes[of_class & record.targets], boxes[of_class & ~record.targets]

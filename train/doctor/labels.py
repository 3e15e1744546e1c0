"""Boxes that are valid by themselves, but odd in view of the other boxes of their image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aweigh.runtime.spec import PostSpec
from aweigh.train.data.records import Fault, ImageRecord, Split

SAME_OBJECT_IOU = 0.9
GIANT_SHARE = 0.95


def examine_labels(split: Split) -> list[Fault]:
    """Duplicates, objects labelled twice, giant boxes, crowds and images without objects, of what can be trained on.

    COCO's crowd regions are passed over: they overlap their objects on purpose.
    """
    return [case for record in split.records for case in _cases(record, split)]


def _cases(record: ImageRecord, split: Split) -> Iterator[Fault]:
    kept = np.flatnonzero(~record.crowd)
    boxes, labels = record.boxes_xyxy[kept].astype(np.float64), record.labels[kept]
    names = [split.categories[label].name for label in labels.tolist()]

    def case(kind: str, detail: str, *which: int) -> Fault:
        marked = tuple(tuple(boxes[i].tolist()) for i in which)
        return Fault(kind, record.path.name, detail, record.path, marked)

    if not len(record.labels):
        yield case("no-objects", "no object is annotated")
    most = PostSpec.max_det
    if len(kept) > most:
        yield case("crowded", f"{len(kept)} objects, a model reports {most} by default")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    shares = areas / (record.size_hw[0] * record.size_hw[1])
    for i in np.flatnonzero(shares >= GIANT_SHARE).tolist():
        yield case("giant-box", f"{names[i]} covers {shares[i]:.0%} of the image", i)
    for i, j, iou in _coinciding(boxes, areas):
        if labels[i] != labels[j]:
            yield case("two-classes", f"{names[i]} and {names[j]} with IoU {iou:.3f}", i, j)
        elif (boxes[i] == boxes[j]).all():
            yield case("duplicate-box", f"{names[i]} {[round(v, 1) for v in boxes[i].tolist()]} again", i)
        else:
            yield case("labelled-twice", f"{names[i]} twice with IoU {iou:.3f}", i, j)


def _coinciding(boxes: npt.NDArray[np.float64], areas: npt.NDArray[np.float64]) -> Iterator[tuple[int, int, float]]:
    """Pairs of boxes [N, 4] that nearly cover each other, and their IoU."""
    for i in range(len(boxes) - 1):
        rest = boxes[i + 1 :]
        sides = np.minimum(boxes[i, 2:], rest[:, 2:]) - np.maximum(boxes[i, :2], rest[:, :2])
        overlap = np.clip(sides, 0, None).prod(axis=1)
        ious = overlap / np.maximum(areas[i] + areas[i + 1 :] - overlap, 1e-12)
        for offset in np.flatnonzero(ious >= SAME_OBJECT_IOU).tolist():
            yield i, i + 1 + offset, float(ious[offset])

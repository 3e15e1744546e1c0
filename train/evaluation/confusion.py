"""Confusion of classes: detections at or above the best thresholds against the ground truth, at IoU 0.5."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aweigh.train.data.records import ImageRecord, Split
from aweigh.train.evaluation.metrics import ResultRow

_IOU = 0.5

Matrix = npt.NDArray[np.int64]


def confusion_matrix(split: Split, results: Sequence[ResultRow], thresholds: Sequence[float | None]) -> Matrix:
    """Count pairs of true and detected class.

    In each image the pair of one class with the highest IoU is matched first, and so on; the rest is matched across
    classes. A detection left over then is a confusion where the object it overlaps most is of another class, though
    that object is matched already: with NMS by class nearly every confusion has its object taken by the right class. A
    row can therefore sum to more than the objects of its class. Any other unmatched detection is of background, a
    duplicate of the right class as well. An unmatched detection that overlaps a crowd or a difficult object is not
    counted.

    Args:
        results: detections of all images of the split.
        thresholds: lowest score for each category; with None no detection of the category counts.

    Returns:
        [C + 1, C + 1]: the row is the true class, the column the detected one, in label order; the last row holds
        detections of background, the last column missed objects.
    """
    labels = {category.id: label for label, category in enumerate(split.categories)}
    by_image: dict[int | str, list[ResultRow]] = defaultdict(list)
    for row in results:
        threshold = thresholds[labels[row["category_id"]]]
        if threshold is not None and row["score"] >= threshold:
            by_image[row["image_id"]].append(row)
    size = len(split.categories)
    matrix = np.zeros((size + 1, size + 1), np.int64)
    for record in split.records:
        rows = by_image[record.image_id]
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        _count(matrix, record, boxes, np.array([labels[row["category_id"]] for row in rows], np.int64))
    return matrix


def _count(
    matrix: Matrix, record: ImageRecord, boxes: npt.NDArray[np.float64], detected: npt.NDArray[np.int64]
) -> None:
    nothing = len(matrix) - 1
    wanted = record.targets
    truths = record.labels[wanted]
    ious = _ious(record.boxes_xyxy[wanted].astype(np.float64), boxes)
    same = truths[:, None] == detected
    all_truths, all_ious = truths.copy(), ious.copy()
    for candidates in (np.where(same, ious, 0), ious):
        for i, j in _greedy(candidates):
            matrix[truths[i], detected[j]] += 1
            ious[i], ious[:, j] = -1, -1
            truths[i] = detected[j] = nothing
    ignored = _ious(record.boxes_xyxy[~wanted].astype(np.float64), boxes).max(axis=0, initial=0) >= _IOU
    for label in truths[truths != nothing]:
        matrix[label, nothing] += 1
    for left in np.flatnonzero((detected != nothing) & ~ignored):
        best = int(all_ious[:, left].argmax()) if len(all_truths) else 0
        confused = len(all_truths) > 0 and all_ious[best, left] >= _IOU and all_truths[best] != detected[left]
        matrix[int(all_truths[best]) if confused else nothing, detected[left]] += 1


def _greedy(ious: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs of the highest IoU first, each row and column once."""
    pairs: list[tuple[int, int]] = []
    rows, columns = np.nonzero(ious >= _IOU)
    order = np.argsort(-ious[rows, columns], kind="stable")
    taken_rows, taken_columns = set[int](), set[int]()
    for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if i not in taken_rows and j not in taken_columns:
            pairs.append((i, j))
            taken_rows.add(i)
            taken_columns.add(j)
    return pairs


def _ious(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    overlap = np.clip(sides, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    union: npt.NDArray[np.float64] = areas[0][:, None] + areas[1] - overlap
    return np.asarray(overlap / np.maximum(union, 1e-12))

"""Curves, confusion and best thresholds of detections made up here, whose right answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.spec import Category
from aweigh.train.data.records import ImageRecord, Split
from aweigh.train.evaluation.coco import THRESHOLDS, CocoEvaluation, best_conf
from aweigh.train.evaluation.confusion import confusion_matrix
from aweigh.train.evaluation.curves import compute_curves, plot_curves

CATEGORIES = (Category(7, "cat"), Category(3, "dog"), Category(9, "cow"))


def record(
    image_id: int, boxes: list[list[float]], labels: list[int], difficult: list[bool] | None = None
) -> ImageRecord:
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(xyxy)
    return ImageRecord(
        image_id=image_id,
        path=Path(f"{image_id}.jpg"),
        size_hw=(200, 200),
        boxes_xyxy=xyxy,
        labels=np.array(labels, np.int64),
        crowd=np.zeros(n, np.bool_),
        difficult=np.array(difficult or [False] * n, np.bool_),
        areas=((xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])).astype(np.float64),
    )


def row(image_id: int, xyxy: list[float], category_id: int, score: float) -> dict[str, Any]:
    x1, y1, x2, y2 = xyxy
    return {"image_id": image_id, "bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": category_id, "score": score}


A, B, C, D = [0, 0, 50, 50], [60, 60, 100, 100], [120, 0, 180, 60], [0, 120, 40, 160]
SPLIT = Split("val", CATEGORIES, (record(1, [A, B, C], [0, 1, 0]), record(2, [A, D], [0, 1], difficult=[False, True])))


def test_who_is_taken_for_whom() -> None:
    results = [
        row(1, A, 7, 0.9),  # right
        row(1, B, 7, 0.8),  # a dog taken for a cat; C is missed
        row(1, [150, 150, 190, 190], 3, 0.7),  # nothing there
        row(2, [0, 0, 50, 49], 7, 0.6),  # right
        row(2, [0, 0, 50, 50], 3, 0.9),  # fits better, but the cat has a cat: a confusion all the same
        row(2, D, 7, 0.9),  # on a difficult object: not counted
        row(2, A, 9, 0.99),  # of a class without threshold
        row(2, A, 7, 0.2),  # below the threshold
    ]
    assert confusion_matrix(SPLIT, results, (0.5, 0.5, None)).tolist() == [
        [2, 1, 0, 1],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 1, 0, 0],
    ]


def test_three_classes_confused_by_construction() -> None:
    """Each object is found as its class and as the next one, as NMS by class leaves it; one duplicate is no class."""
    split = Split("val", CATEGORIES, (record(1, [A, B, C], [0, 1, 2]),))
    ids = [category.id for category in CATEGORIES]
    results = [row(1, box, ids[i], 0.8) for i, box in enumerate((A, B, C))]
    results += [row(1, box, ids[(i + 1) % 3], 0.9) for i, box in enumerate((A, B, C))]
    results += [row(1, A, ids[0], 0.5)]
    assert confusion_matrix(split, results, (0.1, 0.1, 0.1)).tolist() == [
        [1, 1, 0, 0],
        [0, 1, 1, 0],
        [1, 0, 1, 0],
        [1, 0, 0, 0],
    ]


def test_pictures_without_objects_or_detections() -> None:
    split = Split("val", CATEGORIES, (record(1, [], []), record(2, [A], [1])))
    assert confusion_matrix(split, [row(1, A, 3, 0.9)], (0.1, 0.1, 0.1)).tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
        [0, 1, 0, 0],
    ]


def test_thresholds_are_where_f1_is_highest_and_rounded_down() -> None:
    results = [row(1, A, 7, 0.91239), row(2, A, 7, 0.66669), row(1, D, 7, 0.3), row(1, C, 7, 0.2), row(1, B, 3, 0.5)]
    evaluation = CocoEvaluation(SPLIT, results)
    # Cats: 2 of 3 found without a false one (F1 0.8); with all, 3 of 3 and one false one (F1 0.857).
    assert best_conf(evaluation.metrics(), CATEGORIES) == (pytest.approx(0.2), pytest.approx(0.5), None)
    fewer = CocoEvaluation(SPLIT, results[:3])
    assert best_conf(fewer.metrics(), CATEGORIES) == (0.6666, None, None)
    by_name = {curve.name: curve for curve in evaluation.curves()}
    assert set(by_name) == {"cat", "dog"}
    assert by_name["cat"].precision[0] == 1
    assert by_name["cat"].precision[-1] == pytest.approx(0.75)
    assert len(by_name["dog"].precision) == 101


def test_f1_counts_the_false_ones_beyond_the_last_object_too() -> None:
    # Cats at A in both pictures, D in the second is difficult: a detection of it counts neither way.
    results = [row(1, A, 7, 0.9), row(2, A, 7, 0.6), row(1, B, 7, 0.3), row(1, D, 7, 0.2), row(2, D, 3, 0.9)]
    curves_by_name = {curve.name: curve for curve in CocoEvaluation(SPLIT, results).curves()}
    f1 = dict(zip(np.round(THRESHOLDS, 3).tolist(), curves_by_name["cat"].f1, strict=True))
    three = 3  # cats to find
    assert f1[0.95] == 0
    assert f1[0.7] == pytest.approx(2 * 1 / (1 + three))
    assert f1[0.5] == pytest.approx(2 * 2 / (2 + three))
    assert f1[0.25] == pytest.approx(2 * 2 / (3 + three))
    assert f1[0.0] == pytest.approx(2 * 2 / (4 + three))
    assert max(curves_by_name["dog"].f1) == 0
    assert CocoEvaluation(SPLIT, []).curves()[0].f1 == (0.0,) * len(THRESHOLDS)


@pytest.mark.parametrize("found", [True, False])
def test_pictures_are_drawn(found: bool, tmp_path: Path) -> None:
    results = [row(1, A, 7, 0.9), row(1, B, 3, 0.5)] if found else []
    plot_curves(compute_curves(CocoEvaluation(SPLIT, results), SPLIT, results, 5), tmp_path)
    for name in ("PR_curve", "F1_curve", "confusion_matrix"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")

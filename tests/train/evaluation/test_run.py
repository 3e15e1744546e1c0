"""AP on cases whose answer is known, and the treatment of crowds and difficult objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import placement
from aweigh.runtime.network import ImagesU8, Outputs
from aweigh.runtime.spec import Category, InputSpec, ModelSpec, PostSpec
from aweigh.train.data.records import ImageRecord, Split
from aweigh.train.evaluation.coco import coco_metrics
from aweigh.train.evaluation.metrics import BestThreshold, ResultRow
from aweigh.train.evaluation.run import evaluate_network

CATEGORIES = (Category(7, "seven"), Category(3, "three"))


def record(
    folder: Path, image_id: int, boxes: Sequence[Sequence[float]], labels: Sequence[int], **flags: Sequence[bool]
) -> ImageRecord:
    path = folder / f"{image_id}.png"
    cv2.imwrite(str(path), np.full((60, 100, 3), image_id, np.uint8))
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    count = len(xyxy)
    return ImageRecord(
        image_id,
        path,
        (60, 100),
        xyxy,
        np.array(labels, np.int64),
        np.array(flags.get("crowd", [False] * count), bool),
        np.array(flags.get("difficult", [False] * count), bool),
        ((xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])).astype(np.float64),
    )


class Oracle:
    """Knows the truths: the grey level of a picture is its image id."""

    def __init__(self, split: Split, batch: tuple[int, int] = (1, 64), shift_px: float = 0.0) -> None:
        self.split, self.shift_px, self.batches = split, shift_px, []  # type: ignore[var-annotated]
        self.spec = ModelSpec("fcos", "nano", split.categories, InputSpec((64, 96)), PostSpec("none"), batch=batch)

    def infer(self, images_u8: ImagesU8) -> Outputs:
        rows = len(images_u8)
        self.batches.append(rows)
        found: dict[str, Any] = {
            "num_dets": np.zeros(rows, np.int64),
            "boxes": np.zeros((rows, 100, 4), np.float32),
            "scores": np.zeros((rows, 100), np.float32),
            "labels": np.full((rows, 100), -1),
        }
        where = placement((60, 100), self.spec.input)
        for row, image in enumerate(images_u8):
            level = int(image[0, 0, 0])
            if level == self.spec.input.pad_value:  # a batch filled up
                continue
            truth = next(r for r in self.split.records if r.image_id == level)
            count = len(truth.labels)
            found["num_dets"][row] = count
            found["boxes"][row, :count] = where.map(truth.boxes_xyxy) + self.shift_px
            found["scores"][row, :count] = 0.9
            found["labels"][row, :count] = truth.labels
        return found

    def close(self) -> None:
        pass


@pytest.fixture
def split(tmp_path: Path) -> Split:
    records = (
        record(tmp_path, 1, [[10, 10, 40, 50], [50, 5, 90, 55]], [0, 1]),
        record(tmp_path, 2, [], []),
        record(tmp_path, 3, [[20, 20, 60, 60]], [1]),
    )
    return Split("val", CATEGORIES, records, ())


@pytest.mark.parametrize("batch", [(1, 64), (1, 1), (2, 2)])
def test_the_truth_has_ap_one_for_any_batch(split: Split, batch: tuple[int, int]) -> None:
    oracle = Oracle(split, batch)
    metrics = evaluate_network(oracle, split, batch=2)
    assert metrics["AP"] == pytest.approx(1.0)
    assert metrics["AP75"] == pytest.approx(1.0)
    assert {row.id: row["AP"] for row in metrics.per_class} == pytest.approx({3: 1.0, 7: 1.0})
    assert metrics.of_class(3).name == "three"
    best = metrics.to_dict()["per_class"]["3"]
    assert best["best_threshold"] == pytest.approx(0.9)
    assert best["best_F1"] == pytest.approx(1.0)
    assert all(batch[0] <= rows <= batch[1] for rows in oracle.batches)


def test_shifted_boxes_lose_the_strict_thresholds(split: Split) -> None:
    metrics = evaluate_network(Oracle(split, shift_px=5.0), split)
    assert metrics["AP50"] == pytest.approx(1.0)
    assert metrics["AP"] < 0.8


def test_no_detection_at_all(split: Split) -> None:
    metrics = coco_metrics(split, [])
    assert metrics["AP"] == 0.0
    assert metrics["APs"] is None, "no object of that size: no figure, not a zero"
    assert metrics.of_class(3).best == BestThreshold(None, None)


def test_other_categories_are_refused(split: Split, tmp_path: Path) -> None:
    other = Split("val", (Category(1, "one"),), (record(tmp_path, 9, [[1, 1, 30, 30]], [0]),), ())
    with pytest.raises(BadInput, match="categories"):
        evaluate_network(Oracle(split), other)


def detections(image_id: int, *boxes: Sequence[float]) -> list[ResultRow]:
    return [
        {"image_id": image_id, "category_id": 7, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 0.9 - 0.1 * i}
        for i, (x1, y1, x2, y2) in enumerate(boxes)
    ]


@pytest.mark.parametrize("flag", ["crowd", "difficult"])
def test_ignored_objects_count_neither_way(flag: str, tmp_path: Path) -> None:
    boxes = [[10, 10, 40, 50], [50, 5, 90, 55]]
    split = Split("val", CATEGORIES, (record(tmp_path, 1, boxes, [0, 0], **{flag: [True, False]}),), ())
    missed = detections(1, boxes[1])
    assert coco_metrics(split, missed)["AP"] == pytest.approx(1.0), "missing it costs nothing"
    twice = detections(1, boxes[0], boxes[0], boxes[1])
    assert coco_metrics(split, twice)["AP"] == pytest.approx(1.0), "finding it, even twice, costs nothing"
    wrong = detections(1, [0, 0, 9, 9], boxes[1])
    assert coco_metrics(split, wrong)["AP"] < 0.6, "a false positive elsewhere still counts"


def test_difficult_is_matched_by_plain_iou_and_crowd_by_containment(tmp_path: Path) -> None:
    boxes = [[0, 0, 60, 60], [70, 5, 90, 55]]
    part = detections(1, [5, 5, 20, 20], boxes[1])  # a small box inside the ignored one scores higher
    results = {}
    for flag in ("crowd", "difficult"):
        split = Split("val", CATEGORIES, (record(tmp_path, 1, boxes, [0, 0], **{flag: [True, False]}),), ())
        results[flag] = coco_metrics(split, part)["AP"]
    assert results["crowd"] == pytest.approx(1.0)
    assert results["difficult"] < 0.6


def test_the_best_threshold_lies_between_hits_and_misses(split: Split) -> None:
    """Two of a class hit at 0.8 and 0.6, one misses at 0.7 and one at 0.3: F1 is 2/3, 1/2, 4/5, 2/3."""
    truths = [(r.image_id, box) for r in split.records for box, k in zip(r.boxes_xyxy, r.labels, strict=True) if k == 1]
    scored = [(*truths[0], 0.8), (2, [0, 0, 9, 9], 0.7), (*truths[1], 0.6), (2, [30, 30, 39, 39], 0.3)]
    category = split.categories[1].id
    rows = [
        {"image_id": i, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for i, (x1, y1, x2, y2), score in ((i, map(float, box), score) for i, box, score in scored)
    ]
    figures = coco_metrics(split, rows).to_dict()["per_class"][str(category)]
    assert figures["best_threshold"] == pytest.approx(0.6)
    assert figures["best_F1"] == pytest.approx(0.8)

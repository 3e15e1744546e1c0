"""Figures of images drawn again, held to pycocotools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime.spec import Category
from aweigh.train.data.records import ImageRecord, Split
from aweigh.train.evaluation.bootstrap import NAMES, difference_intervals, resampled
from aweigh.train.evaluation.coco import CocoEvaluation
from aweigh.train.evaluation.metrics import ResultRow

IMAGES = 12


def random_case(seed: int) -> tuple[Split, list[ResultRow]]:
    """Objects of three classes, some of them crowds or difficult; detections near them with noise, and false ones."""
    rng = np.random.default_rng(seed)
    records, results = [], []
    for i in range(IMAGES):
        count = int(rng.integers(0, 6))
        corner = rng.uniform(0, 60, (count, 2))
        boxes = np.concatenate((corner, corner + rng.uniform(10, 40, (count, 2))), axis=1).astype(np.float32)
        labels = rng.integers(0, 3, count)
        crowd, difficult = rng.random(count) < 0.1, rng.random(count) < 0.1
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        records.append(
            ImageRecord(i + 1, Path(f"{i}.png"), (100, 100), boxes, labels, crowd, difficult & ~crowd, areas)
        )
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            for _ in range(int(rng.integers(0, 3))):
                dx, dy = rng.normal(0, 3, 2)
                box = [x1 + dx, y1 + dy, x2 - x1, y2 - y1]
                category = 10 * (label + 1) if rng.random() < 0.8 else 10
                results.append(ResultRow(image_id=i + 1, category_id=category, bbox=box, score=float(rng.random())))
    categories = tuple(Category(10 * (k + 1), f"class {k}") for k in range(3))
    return Split("val", categories, tuple(records)), results


@pytest.mark.parametrize("seed", range(4))
def test_each_image_once_gives_the_figures_of_pycocotools(seed: int) -> None:
    split, results = random_case(seed)
    evaluation = CocoEvaluation(split, results)
    figures, metrics = resampled(evaluation.hits(), np.ones((1, IMAGES), np.int64)), evaluation.metrics()
    for name in NAMES:
        assert figures[name][0] == pytest.approx(metrics[name], abs=1e-12), name


def test_an_image_that_is_drawn_twice_counts_twice() -> None:
    """As a split that has its file twice, under two ids; one that is not drawn is not there."""
    split, results = random_case(7)
    weights = np.ones(IMAGES, np.int64)
    weights[2], weights[5] = 2, 0
    records = [record for i, record in enumerate(split.records) if i != 5]
    twice = split.records[2]
    again = ImageRecord(99, *(getattr(twice, name) for name in list(twice.__dataclass_fields__)[1:]))
    rows = [row for row in results if row["image_id"] != 6]
    rows += [{**row, "image_id": 99} for row in results if row["image_id"] == 3]  # type: ignore[misc]
    expected = CocoEvaluation(Split("val", split.categories, (*records, again)), rows).metrics()
    figures = resampled(CocoEvaluation(split, results).hits(), np.stack((np.ones_like(weights), weights)))
    for name in NAMES:
        assert figures[name][1] == pytest.approx(expected[name], abs=1e-9), name


def test_one_model_against_itself_has_no_interval_beside_zero() -> None:
    split, results = random_case(1)
    hits = CocoEvaluation(split, results).hits()
    assert difference_intervals(hits, hits) == dict.fromkeys(NAMES, (0.0, 0.0))


def test_a_model_that_finds_half_is_worse_beyond_chance() -> None:
    split, results = random_case(1)
    worse = [row for i, row in enumerate(results) if i % 2]
    hits, fewer = (CocoEvaluation(split, rows).hits() for rows in (results, worse))
    low, high = difference_intervals(hits, fewer)["AR100"]
    assert low < high < 0
    assert difference_intervals(hits, fewer)["AR100"] == (low, high)  # the same draws each time


def test_nothing_found_and_nothing_to_find() -> None:
    split, results = random_case(2)
    nothing = CocoEvaluation(split, []).hits()
    assert resampled(nothing, np.ones((1, IMAGES), np.int64)) == {name: [0.0] for name in NAMES}
    assert np.isnan(resampled(nothing, np.zeros((1, IMAGES), np.int64))["AP"])
    assert difference_intervals(CocoEvaluation(split, results).hits(), nothing)["AP"][1] < 0

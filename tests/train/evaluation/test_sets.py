"""VOC's and CrowdHuman's figures: by hand, and against their definitions written as plain loops."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.cli.main import main
from aweigh.runtime.spec import Category, InputSpec, ModelSpec, PostSpec
from aweigh.train.checkpoint import Checkpoint, save_checkpoint
from aweigh.train.data.open import load_split
from aweigh.train.data.records import ImageRecord, Split
from aweigh.train.evaluation.crowdhuman import REFERENCES, crowdhuman_metrics
from aweigh.train.evaluation.sets import METRIC_SETS
from aweigh.train.evaluation.voc import voc_metrics
from aweigh.train.models.detector import build_detector

Row = dict[str, Any]


def record(image_id: int, boxes: Sequence[Sequence[float]], labels: Sequence[int], **flags: Any) -> ImageRecord:
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    none = np.zeros(len(xyxy), bool)
    areas = np.prod(xyxy[:, 2:] - xyxy[:, :2], axis=1).astype(np.float64)
    crowd, difficult = (np.array(flags.get(name, none), bool) for name in ("crowd", "difficult"))
    return ImageRecord(image_id, Path("x"), (99, 99), xyxy, np.array(labels, np.int64), crowd, difficult, areas)


def split_of(*records: ImageRecord, classes: int = 1) -> Split:
    return Split("val", tuple(Category(10 + i, f"c{i}") for i in range(classes)), records)


def row(image_id: int, xyxy: Sequence[float], score: float, category_id: int = 10) -> Row:
    x1, y1, x2, y2 = xyxy
    return {"image_id": image_id, "category_id": category_id, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}


A, B, AWAY = [0, 0, 10, 10], [20, 20, 40, 40], [60, 60, 80, 80]


def test_voc_by_hand() -> None:
    """Hit, false alarm, hit of three objects: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3."""
    split = split_of(record(1, [A, B], [0, 0]), record(2, [A], [0]))
    results = [row(1, A, 0.9), row(1, AWAY, 0.8), row(2, A, 0.7)]
    metrics = voc_metrics(split, results)
    assert metrics["mAP"] == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert metrics["mAP07"] == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)  # recalls 0 to 0.3, then 0.4 to 0.6
    assert metrics.of_class(10).name == "c0"
    assert metrics.images == 2


def test_voc_a_second_detection_is_a_false_alarm_and_a_difficult_object_is_nothing() -> None:
    easy = split_of(record(1, [A, B], [0, 0], difficult=[False, True]))
    assert voc_metrics(easy, [row(1, A, 0.9)])["mAP"] == 1.0
    assert voc_metrics(easy, [row(1, B, 0.95), row(1, B, 0.93), row(1, A, 0.9)])["mAP"] == 1.0
    assert voc_metrics(easy, [row(1, AWAY, 0.95), row(1, A, 0.9)])["mAP"] == 0.5
    both = split_of(record(1, [A, B], [0, 0]))
    assert voc_metrics(both, [row(1, A, 0.9), row(1, A, 0.8), row(1, B, 0.7)])["mAP"] == pytest.approx(
        0.5 + 0.5 * 2 / 3
    )


def test_voc_iou_of_exactly_a_half_is_a_hit_and_crowdhuman_wants_more() -> None:
    split = split_of(record(1, [[0, 0, 20, 10]], [0]))
    half = [row(1, [0, 0, 10, 10], 0.9)]
    assert voc_metrics(split, half)["mAP"] == 1.0
    assert crowdhuman_metrics(split, half)["recall"] == 0.0


def test_voc_elevenths_are_counted_in_objects() -> None:
    """3 of 10 objects reach the recall 0.3 exactly, which floats alone miss."""
    boxes = [[i * 9, 0, i * 9 + 8, 8] for i in range(10)]
    metrics = voc_metrics(split_of(record(1, boxes, [0] * 10)), [row(1, box, 0.9) for box in boxes[:3]])
    assert metrics["mAP07"] == pytest.approx(4 / 11)


def test_classes_are_averaged_and_those_without_objects_left_out() -> None:
    split = split_of(record(1, [A, B], [0, 1]), classes=3)
    results = [row(1, A, 0.9), row(1, B, 0.9, 12)]
    assert voc_metrics(split, results)["mAP"] == 0.5
    assert voc_metrics(split, results).of_class(12)["mAP"] is None
    assert crowdhuman_metrics(split, results)["recall"] == 0.5


def test_crowdhuman_by_hand() -> None:
    """Two pictures, two persons: a hit, a false alarm, a hit; curve (0.5, 1), (0.5, 0.5), (1, 2/3)."""
    split = split_of(record(1, [A], [0]), record(2, [B], [0]))
    metrics = crowdhuman_metrics(split, [row(1, A, 0.9), row(1, AWAY, 0.8), row(2, B, 0.7)])
    assert metrics["AP50"] == pytest.approx(0.5 * (1 / 2 + 2 / 3) / 2)
    assert metrics["recall"] == 1.0
    # False alarms per picture: 0, 0.5, 0.5. All references up to 0.3162 are first reached by the false alarm, where
    # half is missed; 0.5623 and 1 never are, and nothing is missed at the end.
    assert metrics["MR"] == pytest.approx(math.exp((7 * math.log(0.5) + 2 * math.log(1e-10)) / 9))
    assert crowdhuman_metrics(split, [])["MR"] == 1.0


def test_crowdhuman_ignores_what_lies_in_a_region() -> None:
    region = [50, 50, 90, 90]
    split = split_of(record(1, [A, region], [0, 0], crowd=[False, True]))
    inside, mostly_outside = row(1, [60, 60, 70, 70], 0.95), row(1, [84, 60, 98, 70], 0.95)
    assert crowdhuman_metrics(split, [inside, inside, row(1, A, 0.9)])["AP50"] == 0.0  # one point: no area
    assert crowdhuman_metrics(split, [inside, row(1, A, 0.9)])["MR"] == pytest.approx(1e-10)
    assert crowdhuman_metrics(split, [mostly_outside, row(1, A, 0.9)])["MR"] > 0.9  # all references are passed first


def iou(a: Sequence[float], b: Sequence[float], of_first: bool = False) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    first, second = ((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return common / (first if of_first else first + second - common)


def plain_crowdhuman(split: Split, results: list[Row]) -> tuple[float, float, float]:
    """AP, MR, recall of the one class, step by step."""
    outcomes = []
    truths = sum(int(r.targets.sum()) for r in split.records)
    for r in split.records:
        free = [box for box, target in zip(r.boxes_xyxy.tolist(), r.targets, strict=True) if target]
        regions = [box for box, target in zip(r.boxes_xyxy.tolist(), r.targets, strict=True) if not target]
        for item in sorted((x for x in results if x["image_id"] == r.image_id), key=lambda x: -x["score"]):
            x, y, w, h = item["bbox"]
            box = [x, y, x + w, y + h]
            best = max(free, key=lambda truth: iou(box, truth), default=None)
            if best is not None and iou(box, best) > 0.5:
                free.remove(best)
                outcomes.append((item["score"], True))
            elif not any(iou(box, region, of_first=True) > 0.5 for region in regions):
                outcomes.append((item["score"], False))
    outcomes.sort(key=lambda x: -x[0])
    hits, curve = 0, []
    for n, (_, hit) in enumerate(outcomes, start=1):
        hits += hit
        curve.append((hits / truths, hits / n, (n - hits) / len(split.records)))
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(curve))
    logs = 0.0
    for reference in REFERENCES:
        recall = next((point[0] for point in curve if point[2] >= reference), curve[-1][0])
        logs += math.log(max(1e-10, 1 - recall))
    return area, math.exp(logs / len(REFERENCES)), curve[-1][0]


def plain_voc(split: Split, results: list[Row]) -> tuple[float, float]:
    """Areas by the two definitions, of the one class."""
    used: set[tuple[int | str, int]] = set()
    truths = sum(int(r.targets.sum()) for r in split.records)
    points: list[tuple[float, float]] = []
    hits = count = 0
    for item in sorted(results, key=lambda x: -x["score"]):
        r = next(r for r in split.records if r.image_id == item["image_id"])
        x, y, w, h = item["bbox"]
        overlaps = [iou([x, y, x + w, y + h], truth) for truth in r.boxes_xyxy.tolist()]
        best = max(range(len(overlaps)), key=overlaps.__getitem__, default=-1)
        if best >= 0 and overlaps[best] >= 0.5:
            if not r.targets[best]:
                continue
            if (r.image_id, best) not in used:
                used.add((r.image_id, best))
                hits += 1
        count += 1
        points.append((hits / truths, hits / count))
    area = sum(max(p for r, p in points if r >= hit / truths - 1e-9) / truths for hit in range(1, hits + 1))
    tenths = [max((p for r, p in points if r >= t / 10 - 1e-9), default=0.0) for t in range(11)]
    return area, sum(tenths) / 11


@pytest.mark.parametrize("seed", range(6))
def test_against_the_definitions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    records, results = [], []
    for image_id in range(1, 13):
        corners = rng.uniform(0, 60, (int(rng.integers(0, 9)), 2))
        boxes = np.concatenate((corners, corners + rng.uniform(8, 30, corners.shape)), axis=1)
        odd = rng.uniform(size=len(boxes)) < 0.2
        records.append(
            record(image_id, boxes.tolist(), [0] * len(boxes), **{"crowd" if seed % 2 else "difficult": odd})
        )
        for box in np.repeat(boxes, rng.integers(0, 4, len(boxes)), axis=0):
            results.append(row(image_id, box + rng.normal(0, 2.5, 4), float(rng.uniform())))
        for corner in rng.uniform(0, 60, (3, 2)):
            results.append(row(image_id, [*corner, *(corner + rng.uniform(8, 30, 2))], float(rng.uniform())))
    split = split_of(*records)
    area, miss_rate, recall = plain_crowdhuman(split, results)
    found = crowdhuman_metrics(split, results)
    assert (found["AP50"], found["MR"], found["recall"]) == pytest.approx((area, miss_rate, recall))
    assert 0.1 < found["MR"] < 0.99
    metrics = voc_metrics(split, results)
    assert (metrics["mAP"], metrics["mAP07"]) == pytest.approx(plain_voc(split, results))


@pytest.mark.parametrize("name", sorted(METRIC_SETS))
def test_every_figure_of_the_table_is_there(name: str) -> None:
    split = split_of(record(1, [A], [0]))
    metrics = METRIC_SETS[name].compute(split, [row(1, A, 0.9)])
    assert set(METRIC_SETS[name].shown) <= set(metrics.values)
    assert {row.id for row in metrics.per_class} == {10}


def test_val_gives_them(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the command line, of a network that knows nothing."""
    category = load_split(shapes, "val").categories
    spec = ModelSpec("fcos", "nano", category, InputSpec((64, 64)), PostSpec("nms"), batch=(1, 64))
    network = {"width": 8, "channels": 16, "convs": 1}
    weights = build_detector("nano", "fcos", len(category), spec.input, network).state_dict()
    save_checkpoint(Checkpoint(spec, network, {}, weights, {}, {}), tmp_path / "x.pt")
    for name, kind in METRIC_SETS.items():
        assert main(["val", "--model", str(tmp_path / "x.pt"), "--data", str(shapes), "--metrics", name, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert 0 <= found[kind.shown[0]] <= 1
        assert main(["val", "--model", str(tmp_path / "x.pt"), "--data", str(shapes), "--metrics", name]) == 0
        assert kind.shown[-1] in capsys.readouterr().out

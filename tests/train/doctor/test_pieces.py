"""The doctor's pieces by themselves: names, likeness, points in boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from aweigh.train.data.likeness import alike, look_of
from aweigh.train.dense.points import make_points
from aweigh.train.doctor.classes import similar_names
from aweigh.train.doctor.sizes import Pyramid, has_point
from aweigh.train.models.fpn import FPN


@pytest.mark.parametrize(
    "pair",
    [("Platelets", "Platelet"), ("traffic light", "Traffic_Light"), ("motorbike", "mototbike"), ("person", "preson")],
)
def test_names_mistyped(pair: tuple[str, str]) -> None:
    assert similar_names(["zebra", pair[0], "giraffe", pair[1]]) == [pair]


def test_names_that_are_meant() -> None:
    assert similar_names(["RBC", "WBC", "type 1", "type 2", "cat", "car", "truck", "trunk lid", "left", "right"]) == []


def scene(seed: int, side: int = 256) -> np.ndarray:
    """A picture of blobs, as smooth as a photograph."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def test_the_same_picture_however_it_was_saved_and_no_other() -> None:
    pictures = [scene(seed) for seed in range(40)]
    darker = (pictures[3] * 0.7).astype(np.uint8)
    smaller = cv2.resize(pictures[7], (97, 80), interpolation=cv2.INTER_AREA)
    coded = cv2.imdecode(cv2.imencode(".jpg", pictures[11], [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_COLOR)
    looks = [look_of(picture) for picture in [*pictures, darker, smaller, coded]]
    assert {(i, j) for i, j, _ in alike(looks)} == {(3, 40), (7, 41), (11, 42)}
    assert list(alike([])) == []


def test_flat_pictures_are_no_copies_of_each_other() -> None:
    flat = [look_of(np.full((64, 64, 3), grey, np.uint8)) for grey in (0, 0, 114, 255)]
    assert list(alike(flat)) == []


def test_pairs_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from aweigh.train.data import likeness

    looks = [look_of(scene(seed % 9)) for seed in range(18)]
    whole = list(alike(looks))
    monkeypatch.setattr(likeness, "_BLOCK", 4)
    assert list(alike(looks)) == whole
    assert [(i, j) for i, j, _ in whole] == [(i, i + 9) for i in range(9)]


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_points_inside_are_those_of_the_detector(offset: float) -> None:
    size = 512
    points = make_points([(size // s, size // s) for s in FPN.strides], FPN.strides, offset)
    xy, stride = points.xy.numpy(), points.stride.numpy()
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 400, (300, 2)).astype(np.float32)
    boxes = np.concatenate((corners, corners + rng.integers(1, 20, (300, 2)).astype(np.float32)), axis=1)
    expected = []
    for x1, y1, x2, y2 in boxes.tolist():
        inside = (xy[:, 0] > x1) & (xy[:, 0] < x2) & (xy[:, 1] > y1) & (xy[:, 1] < y2)
        fits = (stride <= max(x2 - x1, y2 - y1)) | (stride == 8)
        expected.append(bool((inside & fits).any()))
    found = has_point(boxes, Pyramid(FPN.strides, offset))
    assert found.tolist() == expected
    assert 0 < found.sum() < len(found)


def test_a_data_set_without_faults_passes(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from aweigh.runtime.cli.main import main

    assert main(["doctor", "--data", str(shapes), "--imgsz", "64"]) == 0
    assert "0 errors" in capsys.readouterr().out


def test_unknown_split_and_size(shapes: Path, capsys: pytest.CaptureFixture[str], runs: Callable[..., int]) -> None:
    assert runs("--data", str(shapes), "--split", "nowhere") == 2
    assert "nowhere" in capsys.readouterr().err
    assert runs("--data", str(shapes), "--imgsz", "3") == 2
    assert runs("--split", "train") == 2
    assert "--data" in capsys.readouterr().err


@pytest.fixture
def runs() -> Callable[..., int]:
    from aweigh.runtime.cli.main import main

    return lambda *flags: main(["doctor", *flags])

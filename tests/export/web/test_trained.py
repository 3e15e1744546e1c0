"""The page with trained detectors, on images of their data sets: generated ones, and BCCD where it is at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from chromium import EXECUTABLE, Chromium
from made_once import made_once, shared_folder
from same_detections import require_same
from web_page import found_in

from aweigh.runtime import Detector
from aweigh.runtime.cli.main import main
from aweigh.runtime.results.detections import Detections
from aweigh.train.data.open import load_split
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.run.session import train

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium on this machine")

_IMAGES = 20
_START_S = 120
_NEAR_THRESHOLD = 0.05  # of the score: decoders differ by a step or two of 255, and scores with them


@dataclass(frozen=True)
class Trained:
    """A trained detector as a folder for web servers, and 20 images of its data set, as PNG and as JPEG."""

    site: Path
    images: list[Path]


def _data(kind: str, folder: Path) -> Path:
    if kind == "generated":
        return generate_shapes(folder, train=64, val=_IMAGES, size_hw=(128, 176))
    data = Path(os.environ.get("AWEIGH_TEST_DATA", "none")) / "datasets" / "bccd"
    if not data.is_dir():
        pytest.skip("AWEIGH_TEST_DATA holds no data set bccd")
    return data


@pytest.fixture(scope="module", params=["generated", "bccd"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ort_web: Path) -> Trained:
    folder = shared_folder(tmp_path_factory, f"trained-{request.param}")
    data = _data(request.param, folder / "data")
    settings = {"method": "fcos", "model": "nano", "imgsz": "96x128", "batch": 8, "iterations": 60, "lr0": 0.005}
    place = {"data": str(data), "project": str(folder), "name": "run", "threads": 1}
    checkpoint = train(settings | place).checkpoint

    def export(site: Path) -> None:
        flags = ["--format", "web", "--out", str(site), "--ort-web", str(ort_web), "--data", str(data)]
        assert main(["export", "--model", str(checkpoint), *flags]) in (0, 1)

    site = made_once(folder / "site", export)
    images = []
    for number, record in enumerate(load_split(data, "val").records[:_IMAGES]):
        image = cv2.imread(str(record.path))
        for suffix in (".png", ".jpg"):
            images.append(site / f"{number}{suffix}")
            assert cv2.imwrite(str(images[-1]), image)
    return Trained(site, images)


Compare = Callable[[str], tuple[list[dict[str, Any]], list[Detections], float]]


@pytest.fixture
def compared(trained: Trained, served: Callable[[Path], str]) -> Compare:
    """What the page finds on the images of one suffix, what the runtime finds there, and the score threshold."""

    def compare(suffix: str) -> tuple[list[dict[str, Any]], list[Detections], float]:
        images = [path for path in trained.images if path.suffix == suffix]
        with Chromium() as browser:
            browser.open(served(trained.site))
            browser.wait("document.getElementById('health').className !== ''", _START_S)
            assert browser.run("document.getElementById('verdict').className") == "verdict passed"
            result = found_in(browser, [path.name for path in images])
        with Detector(trained.site / "model.onnx", threads=1) as detector:
            expected = detector(images)
        answers = [answer["value"] for answer in result["answers"]]
        assert len(answers) == _IMAGES
        return answers, expected, result["opened"]["value"]["model"]["score_threshold"]

    return compare


def test_png_files_give_the_runtimes_detections(compared: Compare) -> None:
    answers, expected, threshold = compared(".png")
    counts = [require_same(*pair, threshold) for pair in zip(answers, expected, strict=True)]
    assert sum(counts) > _IMAGES


def test_jpeg_files_give_boxes_within_a_pixel(compared: Compare) -> None:
    """The browser has a decoder of its own: the difference is printed."""
    answers, expected, threshold = compared(".jpg")
    moved_px, scores = [0.0], [0.0]
    for answer, found in zip(answers, expected, strict=True):
        for row in answer["detections"]:
            same = [i for i in range(len(found)) if found.cls[i] == row["class_id"]]
            if not same:
                assert row["score"] < threshold + _NEAR_THRESHOLD
                continue
            off = [float(np.abs(found.xyxy[i] - np.array(row["box"])).max()) for i in same]
            if min(off) > 1:
                assert row["score"] < threshold + _NEAR_THRESHOLD, row
                continue
            moved_px.append(min(off))
            scores.append(abs(float(found.conf[same[off.index(min(off))]]) - row["score"]))
    assert len(moved_px) > _IMAGES
    print(f"{len(moved_px) - 1} detections, boxes within {max(moved_px):.3f} px, scores within {max(scores):.4f}")

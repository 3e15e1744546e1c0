"""Which images a receipt's page shows: those that decide come first, with what differs drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from aweigh.export.graph.traced import STAGE_PREFIX
from aweigh.export.proof.page import render
from aweigh.export.proof.prove import Scope, receipt_of
from aweigh.export.proof.receipt import Receipt
from aweigh.export.proof.sides import Side
from aweigh.runtime.network import ImagesU8, Outputs
from aweigh.runtime.spec import Category, InputSpec, ModelSpec, PostSpec
from aweigh.train.data.records import ImageRecord, Split

HW = (64, 96)
IMAGES = 10
STRONG, FAINT = (10, 10, 50, 50), (60, 10, 90, 40)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """One object of 40x40 pixels in each of ten images; image i has the grey level i."""
    folder, records = tmp_path_factory.mktemp("images"), []
    for i in range(IMAGES):
        path = folder / f"{i}.png"
        cv2.imwrite(str(path), np.full((*HW, 3), i, np.uint8))
        no = np.array([False])
        boxes = np.array([STRONG], np.float32)
        records.append(ImageRecord(i + 1, path, HW, boxes, np.array([0]), no, no, np.array([1600.0])))
    return Split("val", (Category(1, "one"),), tuple(records))


class Finds(Side):
    """Finds the object of every image, and something at a score of 0.1.

    ``narrower``: by so many of its columns, ``faint_moved``: by so many pixels, ``tensors``: so much off, by image.
    """

    sha256, parents, runs_in, has_stages = "", frozenset(), "test", True

    def __init__(
        self,
        path: Path,
        narrower: Mapping[int, float] = {},
        faint_moved: Mapping[int, float] = {},
        tensors: Mapping[int, float] = {},
    ) -> None:
        self.spec = ModelSpec("fcos", "nano", (Category(1, "one"),), InputSpec(HW), PostSpec("none"), batch=(1, 64))
        self.path, self.network = path, self
        self._narrower, self._faint_moved, self._tensors = narrower, faint_moved, tensors
        path.write_bytes(b"network")

    def infer(self, images_u8: ImagesU8) -> Outputs:
        rows, levels = len(images_u8), images_u8[:, 0, 0, 0].tolist()
        boxes = np.array([[STRONG, FAINT]] * rows, np.float32)
        boxes[:, 0, 2] -= [self._narrower.get(level, 0) for level in levels]
        boxes[:, 1, 0] += [self._faint_moved.get(level, 0) for level in levels]
        scores, labels = np.array([[0.9, 0.1]] * rows, np.float32), np.zeros((rows, 2), np.int64)
        return {"num_dets": np.full(rows, 2), "boxes": boxes, "scores": scores, "labels": labels}

    def with_stages(self, images_u8: ImagesU8) -> Outputs:
        off = [1 + self._tensors.get(level, 0) for level in images_u8[:, 0, 0, 0].tolist()]
        return self.infer(images_u8) | {f"{STAGE_PREFIX}c3": np.array(off, np.float32)[:, None]}

    def close(self) -> None:
        pass


def proved(split: Split, folder: Path, images: int = IMAGES, **faults: Mapping[int, float]) -> Receipt:
    good, faulty = Finds(folder / "best.pt"), Finds(folder / "best.onnx", **faults)
    return receipt_of(faulty, good, split, scope=Scope(images=images))


def names(receipt: Receipt) -> list[str]:
    """Of the images on the page, in its order."""
    page = re.findall(r"<figcaption>(\d+\.png):", render(receipt))
    assert page == [drawn.image.name for drawn in receipt.drawn]
    return page


def failed(receipt: Receipt) -> set[str]:
    return {check.name.partition(",")[0] for check in receipt.checks if not check.passed}


def test_images_stand_in_their_order_where_nothing_differs(split: Split, tmp_path: Path) -> None:
    receipt = proved(split, tmp_path)
    assert failed(receipt) == set()
    assert names(receipt) == ["0.png", "1.png", "2.png", "3.png"]
    assert "Worst first" not in render(receipt)
    assert "no difference" in render(receipt)


def test_the_image_that_decides_comes_first(split: Split, tmp_path: Path) -> None:
    """It was not on the page at all where it was none of the first four."""
    receipt = proved(split, tmp_path, narrower={7: 0.5})
    assert failed(receipt) == {"detections"}
    assert names(receipt) == ["7.png", "0.png", "1.png", "2.png"]
    page = render(receipt)
    assert "Worst first" in page
    assert "7.png: best.pt (test), 1 of 2 detections drawn; 1 moved" in page
    assert [drawn.pairing.match.moved for drawn in receipt.drawn] == [1, 0, 0, 0]


def test_more_differences_are_worse_and_tensors_order_the_rest(split: Split, tmp_path: Path) -> None:
    receipt = proved(split, tmp_path, narrower={3: 1, 8: 1}, faint_moved={8: 1}, tensors={5: 0.01, 6: 0.5})
    assert failed(receipt) == {"detections", "stages"}
    assert names(receipt) == ["8.png", "3.png", "6.png", "5.png"]


def test_a_difference_is_drawn_whatever_its_score(split: Split, tmp_path: Path) -> None:
    """Images are drawn above 0.3."""
    receipt = proved(split, tmp_path, faint_moved={4: 2})
    assert names(receipt)[0] == "4.png"
    shown = re.findall(r"(\d) of 2 detections drawn", render(receipt))
    assert shown == ["2", "2", "1", "1", "1", "1", "1", "1"]


def test_where_ap_alone_fails_its_images_come_first(split: Split, tmp_path: Path) -> None:
    """The detections of two images are compared, and are the same; AP is that of all ten."""
    narrower = dict.fromkeys(range(1, 8), 12.0) | {5: 30.0, 6: 20.0}
    receipt = proved(split, tmp_path, images=2, narrower=narrower)
    assert failed(receipt) == {"average precision"}
    assert receipt.ap is not None
    assert receipt.ap.worst == ("5.png", "6.png", "1.png", "2.png")
    assert receipt.to_dict()["ap"]["worst"] == ("5.png", "6.png", "1.png", "2.png")
    assert names(receipt) == ["5.png", "6.png", "0.png", "9.png"]
    assert "detections compared on 2 images" in render(receipt)
    both = proved(split, tmp_path, images=2, narrower=narrower | {0: 12.0})
    assert failed(both) == {"average precision", "detections"}
    assert names(both) == ["0.png", "9.png", "5.png", "6.png"]


def test_a_raw_file_has_no_detections_to_show(split: Split, tmp_path: Path) -> None:
    sides = [Finds(tmp_path / name) for name in ("best.onnx", "best.pt")]
    for side in sides:
        side.spec = replace(side.spec, post=replace(side.spec.post, kind="raw"))
    assert receipt_of(sides[0], sides[1], split).drawn == ()

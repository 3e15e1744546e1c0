"""AP of two sides: a box on a threshold decides nothing, a real difference fails."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from aweigh.export.proof.ap import IOU_SHIFT, ApComparison, check_ap, compare_ap
from aweigh.export.proof.sides import Side
from aweigh.runtime.agreement.tolerances import TOLERANCES
from aweigh.runtime.network import ImagesU8, Outputs
from aweigh.runtime.spec import Category, InputSpec, ModelSpec, PostSpec
from aweigh.train.data.records import ImageRecord, Split

HW = (64, 96)
OBJECTS = 10


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """One object of 40x40 pixels in each of ten pictures."""
    folder, records = tmp_path_factory.mktemp("pictures"), []
    for i in range(OBJECTS):
        path = folder / f"{i}.png"
        cv2.imwrite(str(path), np.full((*HW, 3), i, np.uint8))
        box = np.array([[10, 10, 50, 50]], np.float32)
        no = np.array([False])
        records.append(ImageRecord(i + 1, path, HW, box, np.array([0]), no, no, np.array([1600.0])))
    return Split("val", (Category(1, "one"),), tuple(records))


class Found(Side):
    """Finds the object of every picture; of the picture whose grey level is 3 with so many of its 40 columns."""

    path, sha256, parents, runs_in, has_stages = None, "", frozenset(), "test", False

    def __init__(self, split: Split, columns: float) -> None:
        self.spec = ModelSpec("fcos", "nano", split.categories, InputSpec(HW), PostSpec("none"), batch=(1, 64))
        self.network = self
        self._columns = columns

    def infer(self, images_u8: ImagesU8) -> Outputs:
        rows = len(images_u8)
        boxes = np.zeros((rows, 1, 4), np.float32)
        boxes[:, 0] = (10, 10, 50, 50)
        boxes[images_u8[:, 0, 0, 0] == 3, 0, 2] = 10 + self._columns
        one = np.ones((rows, 1), np.float32)
        return {"num_dets": np.ones(rows, np.int64), "boxes": boxes, "scores": one, "labels": np.zeros((rows, 1), int)}

    def close(self) -> None:
        pass


def compared(split: Split, first: float, second: float) -> tuple[ApComparison, bool, str]:
    ap = compare_ap(Found(split, second), Found(split, first), split, TOLERANCES["fp32"])
    check = check_ap(ap, TOLERANCES["fp32"])
    return ap, check.passed, check.measured


def test_a_box_on_a_threshold_decides_nothing(split: Split) -> None:
    ap, passed, measured = compared(split, 30.0, 29.9999)  # IoU 0.75 and 0.7499975
    assert ap.difference["AP75"] < -0.05
    assert ap.difference["AP50"] == 0
    assert ap.shifted.keys() == {f"{-IOU_SHIFT:+g}", f"{IOU_SHIFT:+g}"}
    assert all(difference["AP75"] == 0 for difference in ap.shifted.values())
    assert passed
    assert measured.startswith("+0.0000 (AP)")
    assert "(AP75)" in measured


@pytest.mark.parametrize("second", [29.98, 28.0])  # IoU 0.7495 and 0.7, from 0.7525
def test_a_real_difference_fails(split: Split, second: float) -> None:
    ap, passed, measured = compared(split, 30.1, second)
    assert ap.shifted
    assert not passed
    assert measured.startswith(f"{ap.difference['AP75']:+.4f} (AP75)")


def test_where_ap_agrees_it_is_taken_once(split: Split) -> None:
    ap, passed, measured = compared(split, 34.0, 34.0)
    assert ap.shifted == {}
    assert (passed, measured) == (True, "+0.0000 (AP)")

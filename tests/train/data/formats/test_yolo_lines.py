"""Lines of label files as other tools write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split
from tests.support.cases import case

BOX = [80, 36, 120, 84]


@pytest.fixture
def split_of(tmp_path: Path, picture: Callable[..., Path]) -> Callable[..., Split]:
    """One image of 200x120 with the label file's text."""
    picture(tmp_path / "images" / "a.jpg", (120, 200))

    def read(lines: str, yaml: str = "") -> Split:
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / "a.txt").write_text(lines)
        (tmp_path / "data.yaml").write_text(f"train: images\nnames: [cell, dot]\n{yaml}\n")
        return load_split(tmp_path, "train")

    return read


def test_the_sample_s_decimal_classes(tmp_path: Path) -> None:
    split = load_split(case("yolo-class-as-decimal", tmp_path), "train")
    assert not split.faults
    for label, record in enumerate(split.records):
        np.testing.assert_allclose(record.boxes_xyxy, [BOX])
        np.testing.assert_array_equal(record.labels, [label])


@pytest.mark.parametrize("word", ["1", "1.0", "1.000000", "1.", "+1", "01", "1e0", "0.1E1", "1.000000000000000000e+00"])
def test_a_whole_number_is_a_class(split_of: Callable[..., Split], word: str) -> None:
    split = split_of(f"{word} 0.5 0.5 0.2 0.4")
    assert not split.faults
    np.testing.assert_array_equal(split.records[0].labels, [1])


@pytest.mark.parametrize("word", ["0.5", "-1", "2", "1_0", "nan", "inf", "1e400", "9" * 5000, "\u0661", "cell", "1,0"])
def test_another_word_is_an_unknown_class(split_of: Callable[..., Split], word: str) -> None:
    split = split_of(f"{word} 0.5 0.5 0.2 0.4")
    assert [fault.kind for fault in split.faults] == ["unknown-category"]
    assert len(split.records[0].labels) == 0


@pytest.mark.parametrize("numbers", ["0_5 0.5 0.2 0.4", "0,5 0.5 0.2 0.4", "\u0660 0.5 0.2 0.4", "0.5 0.5 0.2 0.4 0.9"])
def test_numbers_that_are_none_are_reported(split_of: Callable[..., Split], numbers: str) -> None:
    split = split_of(f"0 {numbers}")
    assert [fault.kind for fault in split.faults] == ["unreadable-annotation"]


def test_the_sample_s_pose_labels(tmp_path: Path) -> None:
    root = case("yolo-pose-labels", tmp_path)
    for name in ("kpt-4x2", "kpt-4x3"):
        split = load_split(root / name, "train")
        assert not split.faults
        np.testing.assert_allclose(split.records[0].boxes_xyxy, [BOX])


@pytest.mark.parametrize("shape", [(1, 2), (1, 3), (17, 3), (21, 2)])
def test_the_box_stands_before_the_keypoints(split_of: Callable[..., Split], shape: tuple[int, int]) -> None:
    points = " ".join(["0.9"] * (shape[0] * shape[1]))
    split = split_of(f"0 0.5 0.5 0.2 0.4 {points}\n1 0.5 0.5 0.2 0.4\n", f"kpt_shape: {list(shape)}")
    assert not split.faults
    np.testing.assert_allclose(split.records[0].boxes_xyxy, [BOX, BOX])


def test_in_a_data_set_with_keypoints_no_line_is_an_outline(split_of: Callable[..., Split]) -> None:
    split = split_of("0 0.1 0.1 0.9 0.1 0.9 0.5 0.2 0.6\n", "kpt_shape: [17, 3]")
    assert [fault.kind for fault in split.faults] == ["unreadable-annotation"]
    assert "51 numbers of keypoints" in split.faults[0].detail


@pytest.mark.parametrize("shape", ["[4]", "[4, 4]", "[0, 2]", "[a, 2]", "4", "{a: 4}", "[4.5, 2]", "[[4], 2]"])
def test_a_shape_of_keypoints_that_is_none(split_of: Callable[..., Split], shape: str) -> None:
    with pytest.raises(BadInput, match=r"data.yaml: kpt_shape: expected \[keypoints, 2 or 3\]"):
        split_of("", f"kpt_shape: {shape}")

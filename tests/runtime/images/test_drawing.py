from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.drawing import WRITABLE, draw_boxes, encode_image
from aweigh.runtime.images.palette import class_colour
from aweigh.runtime.images.reading import read_image


@pytest.mark.parametrize("hw", [(1, 1), (3, 200), (20, 20), (320, 240), (2160, 3840)])
def test_any_picture_size(hw: tuple[int, int]) -> None:
    image = np.full((*hw, 3), 90, np.uint8)
    height, width = hw
    boxes = np.array(
        [[0, 0, width, height], [width / 4, height / 4, width / 2, height / 2], [-5, -5, 2, 2]], np.float32
    )
    drawn = draw_boxes(image, boxes, ["person 0.91", "traffic light 0.50", "ü 0.10"], [1, 2, 3])
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (image == 90).all()
    assert (drawn != image).any()


def test_no_boxes_leave_the_picture_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    drawn = draw_boxes(image, np.zeros((0, 4), np.float32), [], [])
    assert np.array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_the_edge_has_the_colour_of_the_class() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    drawn = draw_boxes(image, np.array([[50, 60, 250, 180]], np.float32), ["x" * 200], [4])
    for y, x in ((60, 150), (180, 150), (120, 50), (120, 250)):
        assert tuple(drawn[y, x].tolist()) == class_colour(4)
    assert not drawn[120, 150].any()  # nothing inside, and the label too wide for the picture is left away


def test_a_label_stands_above_its_box_or_below_or_inside() -> None:
    image = np.zeros((200, 300, 3), np.uint8)

    def label_rows(top: int, bottom: int) -> np.ndarray:
        drawn = draw_boxes(image, np.array([[0, top, 300, bottom]], np.float32), ["car 0.5"], [4])
        return np.flatnonzero((drawn[:, 3:40] == class_colour(4)).all(axis=2).mean(axis=1) > 0.3)

    assert label_rows(100, 180).min() < 100 - 5
    assert label_rows(2, 100).max() > 100 + 5
    assert 5 < np.count_nonzero(label_rows(0, 199)) < 40


@pytest.mark.parametrize("suffix", sorted(WRITABLE))
def test_encode_image(suffix: str, tmp_path: Path) -> None:
    image = np.zeros((16, 24, 3), np.uint8)
    image[..., 0] = 200
    path = encode_image(tmp_path / f"x{suffix.upper()}", image)
    read = read_image(path)
    assert np.abs(read.astype(int) - image).max() <= 4


def test_encode_image_refuses_other_suffixes(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot write this format"):
        encode_image(tmp_path / "x.txt", np.zeros((4, 4, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def plate_pixels(drawn: np.ndarray, class_id: int) -> np.ndarray:
    return (drawn == class_colour(class_id)).all(axis=2)


def test_labels_at_one_place_do_not_cover_each_other() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    box = np.array([[100, 100, 220, 170]], np.float32)
    alone = [
        plate_pixels(draw_boxes(image, box, ["car 0.5"], [i]), i).sum()
        - plate_pixels(draw_boxes(image, box, ["x" * 200], [i]), i).sum()
        for i in range(6)
    ]
    together = draw_boxes(image, box.repeat(6, axis=0), ["car 0.5"] * 6, list(range(6)))
    for i in range(1, 6):  # the first box's edge covers those of the others
        assert plate_pixels(together, i).sum() >= 0.9 * alone[i]  # margins may be shared


def test_in_a_crowd_the_first_labels_stay() -> None:
    """A hundred boxes at one place of a small picture: the best keep their labels, whole."""
    image = np.zeros((60, 90, 3), np.uint8)
    boxes = np.tile(np.array([[10, 20, 70, 50]], np.float32), (100, 1))
    first = draw_boxes(image, boxes[:1], ["a 0.9"], [5])
    crowd = draw_boxes(image, boxes, ["a 0.9"] * 100, [5] + [1] * 99)
    plate = plate_pixels(first, 5) & ~plate_pixels(draw_boxes(image, boxes[:1], ["x" * 200], [5]), 5)
    assert (crowd[plate] == class_colour(5)).all(axis=1).mean() > 0.9
    shown = plate_pixels(crowd, 1).sum() / plate.sum()
    assert 1 < shown < 20  # others found a place, and most none


def test_a_label_stays_inside_the_picture() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    drawn = draw_boxes(image, np.array([[280, 100, 299, 120]], np.float32), ["traffic light 0.50"], [4])
    columns = np.flatnonzero(plate_pixels(drawn, 4)[:99].any(axis=0))
    assert columns.max() == 299
    assert columns.min() < 270

from __future__ import annotations

from typing import Literal, get_args, get_type_hints

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import Placement, placement, prepare
from aweigh.runtime.spec import InputSpec

Resize = Literal["letterbox", "keep-ratio", "stretch"]
POLICIES: tuple[Resize, ...] = get_args(get_type_hints(InputSpec)["resize"])


@pytest.mark.parametrize(
    ("original_hw", "size_hw", "content_hw"),
    [
        ((480, 640), (640, 640), (480, 640)),
        ((720, 1280), (640, 640), (360, 640)),
        ((1280, 720), (640, 640), (640, 360)),
        ((100, 100), (288, 384), (288, 288)),
        ((1, 5000), (64, 64), (1, 64)),
        ((5000, 1), (64, 64), (64, 1)),
    ],
)
def test_letterbox(original_hw: tuple[int, int], size_hw: tuple[int, int], content_hw: tuple[int, int]) -> None:
    where = placement(original_hw, InputSpec(size_hw))
    assert where.content_hw == content_hw
    assert (where.input_hw, where.pad, where.original_hw) == (size_hw, (0, 0), original_hw)
    assert where.scale_xy == (content_hw[1] / original_hw[1], content_hw[0] / original_hw[0])


@pytest.mark.parametrize(
    ("original_hw", "content_hw", "input_hw"),
    [
        ((480, 640), (800, 1067), (800, 1088)),  # the sizes of COCO's commonest pictures in mmdet
        ((427, 640), (800, 1199), (800, 1216)),
        ((640, 480), (1067, 800), (1088, 800)),
        ((300, 1000), (400, 1333), (416, 1344)),  # the long bound holds
    ],
)
def test_keep_ratio(original_hw: tuple[int, int], content_hw: tuple[int, int], input_hw: tuple[int, int]) -> None:
    where = placement(original_hw, InputSpec((800, 1333), resize="keep-ratio", dynamic_size=True))
    assert (where.content_hw, where.input_hw) == (content_hw, input_hw)


def test_stretch_fills_the_input() -> None:
    where = placement((100, 50), InputSpec((64, 96), resize="stretch"))
    assert (where.content_hw, where.scale_xy) == ((64, 96), (96 / 50, 0.64))


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    resize=st.sampled_from(POLICIES),
    seed=st.integers(0, 1000),
)
def test_map_and_unmap_are_inverse(height: int, width: int, resize: Resize, seed: int) -> None:
    where = placement((height, width), InputSpec((160, 224), resize=resize, dynamic_size=resize == "keep-ratio"))
    content_h, content_w = where.content_hw
    assert 1 <= content_h <= where.input_hw[0]
    assert 1 <= content_w <= where.input_hw[1]
    corners = np.random.default_rng(seed).uniform(0, 1, (5, 2, 2)) * [width, height]
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
    boxes[0] = (0, 0, width, height)
    mapped = where.map(boxes)
    np.testing.assert_allclose(mapped[0], [0, 0, content_w, content_h], rtol=1e-6)
    np.testing.assert_allclose(where.unmap(mapped), boxes, rtol=1e-5, atol=1e-3)


def test_unmap_clips_to_the_picture_and_map_does_not() -> None:
    where = Placement((2.0, 2.0), (0, 0), (64, 64), (20, 30))
    assert where.unmap(np.array([[-5, -5, 100, 100]], np.float32)).tolist() == [[0, 0, 30, 20]]
    assert where.map(np.array([[-5, 0, 40, 20]], np.float32)).tolist() == [[-10, 0, 80, 40]]


def test_padding_at_the_left_and_the_top_is_taken_off() -> None:
    where = Placement((0.5, 0.5), (10, 6), (64, 64), (40, 40))
    boxes = np.array([[2, 4, 20, 30]], np.float32)
    assert where.map(boxes).tolist() == [[11, 8, 20, 21]]
    assert np.array_equal(where.unmap(where.map(boxes)), boxes)


def test_no_boxes() -> None:
    where = placement((10, 10), InputSpec((32, 32)))
    empty = np.zeros((0, 4), np.float32)
    assert where.map(empty).shape == where.unmap(empty).shape == (0, 4)
    assert where.unmap(empty).dtype == np.float32


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_pixels_go_where_boxes_go(factor: float) -> None:
    """A box that covers whole pixels covers its picture in the network input too: the half-pixel centres agree."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[8:16, 12:24] = 255
    size = (round(32 * factor), round(48 * factor))
    prepared, where = prepare(image, InputSpec(size, interpolation="area" if factor < 1 else "linear"))
    left, top, right, bottom = where.map(np.array([[12, 8, 24, 16]], np.float32))[0]
    inside = prepared[..., 0] > 127
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (left, top, right, bottom)


@pytest.mark.parametrize("resize", POLICIES)
@pytest.mark.parametrize("interpolation", ["linear", "area"])
def test_prepare_is_opencv_and_padding(resize: Resize, interpolation: Literal["linear", "area"]) -> None:
    spec = InputSpec((64, 96), resize=resize, interpolation=interpolation, pad_value=7)
    image = np.random.default_rng(0).integers(0, 256, (50, 130, 3), dtype=np.uint8)
    prepared, where = prepare(image, spec)
    height, width = where.content_hw
    flag = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}[interpolation]
    assert prepared.shape == (*where.input_hw, 3)
    assert np.array_equal(prepared[:height, :width], cv2.resize(image, (width, height), interpolation=flag))
    assert (prepared[height:] == 7).all()
    assert (prepared[:, width:] == 7).all()


def test_prepare_writes_into_a_row_of_the_batch() -> None:
    spec = InputSpec((64, 64))
    image = np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8)
    batch = np.zeros((3, 64, 64, 3), np.uint8)
    row, _ = prepare(image, spec, out=batch[1])
    assert np.shares_memory(row, batch)
    assert np.array_equal(batch[1], prepare(image, spec)[0])
    assert not batch[[0, 2]].any()


def test_a_picture_of_the_right_size_is_left_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(prepare(image, InputSpec((64, 64)))[0], image)
    turned = image[:, ::-1]
    assert np.array_equal(prepare(turned, InputSpec((64, 64)))[0], turned)
    assert np.array_equal(
        prepare(turned, InputSpec((32, 32)))[0], prepare(np.ascontiguousarray(turned), InputSpec((32, 32)))[0]
    )


def test_bad_calls() -> None:
    spec, image = InputSpec((64, 64)), np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(BadInput, match="at least 1x1"):
        prepare(np.zeros((0, 5, 3), np.uint8), spec)
    with pytest.raises(BadInput, match="expected uint8"):
        prepare(image.astype(np.float32), spec)
    with pytest.raises(BadInput, match="expected uint8"):
        prepare(image[..., 0], spec)
    for out in (np.zeros((32, 64, 3), np.uint8), np.zeros((64, 64, 6), np.uint8)[..., ::2]):
        with pytest.raises(BadInput, match="out: expected"):
            prepare(image, spec, out=out)


def test_boxes_in_the_padding_are_told_from_those_in_the_image() -> None:
    where = placement((40, 400), InputSpec((128, 128)))  # 13 rows of image, 115 of padding
    height = where.content_hw[0]
    boxes = np.array([[0, 0, 9, 9], [5, 9, 9, height + 20], [5, height, 9, 99], [0, 100, 128, 128], [5, 5, 5, 9]])
    assert where.shows(boxes).tolist() == [True, True, False, False, False]
    assert where.shows(np.zeros((0, 4))).tolist() == []

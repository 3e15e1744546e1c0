from __future__ import annotations

from dataclasses import fields
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import placement, prepare
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.loading.augment import Augment, augment

OFF = Augment(
    flip=0, scale=0, random_place=False, shift=0, brightness=0, contrast=0, saturation=0, hue=0, min_visible=0
)
GEOMETRY = Augment(scale=0.8, shift=0.1, brightness=0, contrast=0, saturation=0, hue=0, min_visible=0.9)
SPECS = (
    InputSpec((96, 128)),
    InputSpec((96, 96), interpolation="area"),
    InputSpec((64, 128), resize="stretch"),
    InputSpec((64, 120), resize="keep-ratio"),
    InputSpec((512, 448)),
)


def noise(size_hw: tuple[int, int] = (150, 200)) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def boxes_and_labels(*boxes: tuple[float, ...]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    return np.array(boxes, np.float32).reshape(-1, 4), np.arange(len(boxes), dtype=np.int64)


def variant(
    image: npt.NDArray[np.uint8], *boxes: tuple[float, ...], seed: int, spec: InputSpec, config: Augment
) -> Any:
    return augment(image, *boxes_and_labels(*boxes), np.random.default_rng(seed), spec, config)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("size_hw", [(150, 200), (201, 77), (31, 40)])
def test_without_randomness_it_is_prepare(spec: InputSpec, size_hw: tuple[int, int]) -> None:
    image = noise(size_hw)
    box = (10.0, 4.0, 33.0, 28.0)
    canvas, boxes, labels = variant(image, box, seed=0, spec=spec, config=OFF)
    expected, where = prepare(image, spec)
    np.testing.assert_array_equal(canvas, expected)
    np.testing.assert_allclose(boxes, where.map(np.array([box], np.float32)), rtol=1e-6)
    assert labels.tolist() == [0]


@pytest.mark.parametrize("spec", SPECS)
def test_boxes_follow_the_pixels(spec: InputSpec) -> None:
    """A bright rectangle on black is found again where its box went."""
    image = np.zeros((150, 200, 3), np.uint8)
    box = (60, 40, 130, 105)
    image[box[1] : box[3], box[0] : box[2]] = 255
    found = 0
    for seed in range(60):
        canvas, boxes, _ = variant(image, box, seed=seed, spec=spec, config=GEOMETRY)
        bright = canvas[..., 0].astype(int) > 140  # padding is 114
        if len(boxes) == 0:
            continue
        found += 1
        columns, rows = np.flatnonzero(bright.any(axis=0)), np.flatnonzero(bright.any(axis=1))
        seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        np.testing.assert_allclose(boxes[0], seen, atol=1.0)
    assert found >= 30


def test_places_are_spread_and_a_larger_picture_is_cropped() -> None:
    spec, sizes, lefts = InputSpec((96, 96)), set(), set()
    for seed in range(60):
        canvas, _, _ = variant(np.full((90, 90, 3), 255, np.uint8), seed=seed, spec=spec, config=GEOMETRY)
        white = np.flatnonzero((canvas[..., 0] == 255).any(axis=0))
        sizes.add(len(white))
        lefts.add(int(white[0]))
    assert len(sizes) > 15
    assert len(lefts) > 15
    assert max(sizes) == 96
    assert min(sizes) < 50


def test_flip_mirrors_picture_and_boxes() -> None:
    spec, image = InputSpec((96, 96)), noise((96, 96))
    flipped = Augment(**{**{f.name: getattr(OFF, f.name) for f in fields(OFF)}, "flip": 1.0})
    canvas, boxes, _ = variant(image, (10, 20, 40, 50), seed=0, spec=spec, config=flipped)
    np.testing.assert_array_equal(canvas, image[:, ::-1])
    np.testing.assert_array_equal(boxes, [[56, 20, 86, 50]])


def test_a_box_too_little_visible_is_no_target() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    config = Augment(flip=0, scale=0.0, random_place=False, shift=0.5, min_visible=0.5)
    corner = (0.0, 0.0, 30.0, 30.0)
    kept = set()
    for seed in range(40):
        canvas, boxes, labels = variant(
            image, corner, (0, 0, 100, 1.5), seed=seed, spec=InputSpec((100, 100)), config=config
        )
        assert labels.tolist() in ([], [0])  # thinner than two pixels is dropped always
        kept.add(len(boxes))
        for x1, y1, x2, y2 in boxes:
            assert (x2 - x1) * (y2 - y1) >= 0.5 * 30 * 30 - 1e-3
            assert canvas.shape == (100, 100, 3)
    assert kept == {0, 1}


@settings(max_examples=150, deadline=None)
@given(
    size_hw=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    spec=st.sampled_from(SPECS),
    scale=st.floats(0, 2),
    shift=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_any_picture_gives_the_input_s_shape_and_boxes_within(
    size_hw: tuple[int, int], spec: InputSpec, scale: float, shift: float, seed: int
) -> None:
    image = np.zeros((*size_hw, 3), np.uint8)
    config = Augment(scale=scale, shift=shift, min_visible=0)
    canvas, boxes, labels = variant(image, (0, 0, size_hw[1], size_hw[0]), seed=seed, spec=spec, config=config)
    height, width = placement(size_hw, spec).input_hw
    assert canvas.shape == (height, width, 3)
    assert canvas.dtype == np.uint8
    assert len(boxes) == len(labels)
    assert (boxes >= 0).all()
    assert (boxes <= [width, height, width, height]).all()


def test_no_boxes() -> None:
    _, boxes, labels = variant(noise(), seed=0, spec=SPECS[0], config=Augment())
    assert boxes.shape == (0, 4)
    assert boxes.dtype == np.float32
    assert labels.dtype == np.int64


def test_the_picture_is_not_written_to() -> None:
    image = noise((96, 128))
    before = image.copy()
    image.flags.writeable = False
    for seed in range(5):
        variant(image, seed=seed, spec=SPECS[0], config=Augment())
    variant(image, seed=0, spec=SPECS[0], config=OFF)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("strengths", "grey_stays_grey", "luma_stays"),
    [({"saturation": 0.5}, True, True), ({"hue": 0.3}, True, True), ({"brightness": 0.4}, True, False)],
)
def test_what_a_colour_change_leaves_alone(
    strengths: dict[str, float], grey_stays_grey: bool, luma_stays: bool
) -> None:
    config = Augment(**{**{f.name: getattr(OFF, f.name) for f in fields(OFF)}, **strengths})
    spec = InputSpec((64, 64))
    colour = np.full((64, 64, 3), (120, 100, 140), np.uint8)
    grey = np.full((64, 64, 3), 100, np.uint8)
    changed = 0
    for seed in range(10):
        out, _, _ = variant(colour, seed=seed, spec=spec, config=config)
        changed += int((out != colour).any())
        lumas = [int(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[0, 0]) for x in (colour, out)]
        assert (abs(lumas[0] - lumas[1]) <= 2) == luma_stays or not luma_stays
        out, _, _ = variant(grey, seed=seed, spec=spec, config=config)
        assert (np.ptp(out[0, 0].astype(int)) <= 2) == grey_stays_grey
    assert changed >= 8


def test_colour_leaves_the_padding_alone() -> None:
    canvas, _, _ = variant(noise((50, 100)), seed=3, spec=InputSpec((128, 128)), config=Augment(scale=0, flip=0))
    assert (canvas == 114).all(axis=(1, 2)).sum() >= 60


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"scale": -0.1}, {"hue": float("nan")}, {"min_visible": 2}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=f"{next(iter(wrong))} = "):
        Augment(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("step", "expected"), [(0, {48, 96}), (16, {48, 64, 80, 96})])
def test_short_sides_are_drawn_from_the_list_or_the_range(step: int, expected: set[int]) -> None:
    spec = InputSpec((64, 192), resize="keep-ratio", dynamic_size=True)
    still = {"flip": 0, "scale": 0, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "random_place": False}
    config = Augment(**still, short_sides_px=(48, 96), short_side_step_px=step)  # type: ignore[arg-type]
    image = np.full((100, 150, 3), 255, np.uint8)
    boxes = np.array([[10, 20, 110, 70]], np.float32)
    found = set()
    for seed in range(64):
        rng = np.random.default_rng(seed)
        canvas, moved, _ = augment(image, boxes, np.zeros(1, np.int64), rng, spec, config)
        short_px = int((canvas[:, 0, 0] == 255).sum())
        found.add(short_px)
        np.testing.assert_allclose(moved, boxes * short_px / 100, rtol=1e-2)
        assert canvas.shape[0] % 32 == canvas.shape[1] % 32 == 0
    assert found == expected


def test_the_longer_side_bounds_a_drawn_short_side() -> None:
    spec = InputSpec((64, 96), resize="keep-ratio", dynamic_size=True)
    config = Augment(flip=0, scale=0, random_place=False, short_sides_px=(64, 640))
    assert config.largest(spec).size_hw == (96, 96)
    for seed in range(8):
        canvas, _, _ = augment(
            np.zeros((50, 100, 3), np.uint8),
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.int64),
            np.random.default_rng(seed),
            spec,
            config,
        )
        assert canvas.shape == (64, 96, 3)


def test_sizes_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(BadInput, match="keep-ratio"):
        Augment(short_sides_px=(48, 96)).largest(InputSpec((64, 64)))
    for sides, step in (((0, 96), 0), ((48, 64, 96), 16), ((96, 48), 16), ((48,), 1)):
        with pytest.raises(BadInput, match="short_sides_px"):
            Augment(short_sides_px=sides, short_side_step_px=step)

from __future__ import annotations

import cv2
import numpy as np

from aweigh.runtime.images.palette import class_colour


def lab(colours: list[tuple[int, int, int]]) -> np.ndarray:
    """[N, 3] CIELAB as OpenCV has it."""
    return cv2.cvtColor(np.array([colours], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]


def test_the_first_colours_are_the_same_everywhere() -> None:
    assert [class_colour(i) for i in range(4)] == [(255, 34, 34), (0, 255, 0), (34, 17, 255), (0, 204, 255)]
    assert (class_colour(63), class_colour(64)) == (class_colour(63), class_colour(64))


def test_colours_look_different() -> None:
    """Twenty CIELAB units are seen at a glance; of the hues by id that there were before, two of 25 lay at 3."""
    places = lab([class_colour(i) for i in range(80)])
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(80) * 1e3
    for classes, least in ((6, 60), (20, 30), (40, 20), (80, 15)):
        assert distances[:classes, :classes].min() > least, classes


def test_every_class_of_a_large_data_set_has_its_own() -> None:
    """1,203 classes, as many as LVIS has; the order in which they are asked for does not matter."""
    late = class_colour(1202)
    colours = [class_colour(i) for i in range(1203)]
    assert len(set(colours)) == 1203
    assert colours[-1] == late


def test_no_colour_is_grey_or_nearly_black() -> None:
    for red, green, blue in (class_colour(i) for i in range(300)):
        assert max(red, green, blue) - min(red, green, blue) >= 100
        assert max(red, green, blue) >= 150


def test_positions_beyond_the_palette_begin_again() -> None:
    assert isinstance(class_colour(10**6), tuple)

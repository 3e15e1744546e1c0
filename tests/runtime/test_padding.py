"""What a network finds in the padding is no detection: it has no area in the image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime.detector import Detector

MakeModel = Callable[..., Path]


@pytest.mark.parametrize("shape_hw", [(20, 192), (192, 20), (1, 300)])
def test_boxes_in_the_padding_are_left_out(make_model: MakeModel, shape_hw: tuple[int, int]) -> None:
    """The model finds what is red, and a white padding is."""
    with Detector(make_model(input={"pad_value": 255}), threads=1) as detector:
        found = detector(np.full((*shape_hw, 3), 60, np.uint8))
        assert (len(found), found.xyxy.shape) == (0, (0, 4))
        rows = detector.raw(np.full((1, 64, 96, 3), 255, np.uint8))
        assert rows["num_dets"].tolist() == [2]  # the network does find it


def test_every_box_has_an_area_in_the_image(make_model: MakeModel) -> None:
    """One that reaches from the image into the padding is cut at the image's edge."""
    image = np.full((40, 192, 3), 60, np.uint8)
    image[30:, 100:150] = (255, 0, 0)
    with Detector(make_model(input={"pad_value": 255}), threads=1) as detector:
        found = detector(image)
        assert len(found) > 0
        sides = found.xyxy[:, 2:] - found.xyxy[:, :2]
        assert sides.min() > 0
        assert found.xyxy.min() >= 0
        assert (found.xyxy[:, 2:] <= [192, 40]).all()

"""What the HTML pages share: one style, and pictures inside the file."""

from __future__ import annotations

import base64
from importlib.resources import files

import cv2
import numpy as np
import numpy.typing as npt

_LEGIBLE_PX = 512
_JPEG_QUALITY = 88


def stylesheet() -> str:
    """The style of all pages, for ``<style>``."""
    return files("aweigh.runtime").joinpath("page.css").read_text()


def data_uri(image_rgb_u8: npt.NDArray[np.uint8]) -> str:
    """A picture [H, W, 3] as the address of an ``<img>``: JPEG."""
    bgr = cv2.cvtColor(image_rgb_u8, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def legible(image_rgb_u8: npt.NDArray[np.uint8], largest_px: int | None = None) -> tuple[npt.NDArray[np.uint8], float]:
    """The picture at a size that names can be drawn in at, and the factor its boxes grow by.

    Small ones are enlarged by a whole number; those with a side above ``largest_px`` are made smaller.
    """
    side_px = max(image_rgb_u8.shape[:2])
    if largest_px is not None and side_px > largest_px:
        scale = largest_px / side_px
        height, width = (max(1, round(side * scale)) for side in image_rgb_u8.shape[:2])
        return np.asarray(cv2.resize(image_rgb_u8, (width, height), interpolation=cv2.INTER_AREA), np.uint8), scale
    enlarged = -(-_LEGIBLE_PX // side_px)
    return image_rgb_u8.repeat(enlarged, axis=0).repeat(enlarged, axis=1), float(enlarged)

"""Boxes, names and scores drawn into pictures, and pictures written to files."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN_RATIO = 0.618033988749895
WRITABLE = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


def class_colour(class_id: int) -> tuple[int, int, int]:
    """RGB of a class: the same in every run, and far apart for neighbouring ids."""
    hue = (class_id * _GOLDEN_RATIO) % 1.0
    value = (1.0, 0.8, 0.9)[class_id % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_boxes(
    image_rgb_u8: npt.NDArray[np.uint8],
    boxes_xyxy: npt.NDArray[np.float32],
    labels: Sequence[str],
    class_ids: Sequence[int],
) -> npt.NDArray[np.uint8]:
    """``draw_coloured`` with the colours of N class ids."""
    return draw_coloured(image_rgb_u8, boxes_xyxy, labels, [class_colour(class_id) for class_id in class_ids])


def draw_coloured(
    image_rgb_u8: npt.NDArray[np.uint8],
    boxes_xyxy: npt.NDArray[np.float32],
    labels: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
) -> npt.NDArray[np.uint8]:
    """A copy of the picture with one rectangle and label per box; the first box ends up on top.

    Args:
        image_rgb_u8: [H, W, 3].
        boxes_xyxy: [N, 4] pixels.
        labels: N texts; left away where a text is empty, or wider than the picture.
        colours: N of them, RGB.
    """
    canvas = np.array(image_rgb_u8, order="C")
    height, width = canvas.shape[:2]
    # Lines and letters grow with the picture, and stay legible when a large one is shown small.
    line_px = max(1, round((height + width) / 700))
    scale = max(0.35, (height + width) / 3200)
    rows = list(zip(np.rint(boxes_xyxy).astype(int).tolist(), labels, colours, strict=True))[::-1]
    for (left, top, right, bottom), _, colour in rows:
        corner = (min(right, width - 1), min(bottom, height - 1))
        cv2.rectangle(canvas, (left, top), corner, colour, line_px, cv2.LINE_AA if line_px > 1 else cv2.LINE_8)
    for (left, top, _, bottom), label, colour in rows:  # after all rectangles, so that none crosses a text
        if label:
            _draw_label(canvas, (left, top, bottom), label, colour, scale)
    return canvas


def _draw_label(
    canvas: npt.NDArray[np.uint8], box_ltb: tuple[int, int, int], label: str, colour: tuple[int, int, int], scale: float
) -> None:
    height, width = canvas.shape[:2]
    stroke_px = max(1, round(scale * 1.5))
    (text_w, text_h), baseline = cv2.getTextSize(label, _FONT, scale, stroke_px)
    margin = max(1, round(scale * 4))
    plate_w, plate_h = text_w + 2 * margin, text_h + baseline + 2 * margin
    if plate_w > width or plate_h > height:
        return
    left, top, bottom = box_ltb
    x = min(max(left, 0), width - plate_w)
    # Above the box; where there is no room, below it; for a box as tall as the picture, inside.
    y = top - plate_h
    if y < 0:
        y = bottom if bottom + plate_h <= height else max(top, 0)
    y = min(y, height - plate_h)
    cv2.rectangle(canvas, (x, y), (x + plate_w - 1, y + plate_h - 1), colour, cv2.FILLED)
    red, green, blue = colour
    ink = (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
    cv2.putText(canvas, label, (x + margin, y + margin + text_h), _FONT, scale, ink, stroke_px, cv2.LINE_AA)


def encode_image(path: str | os.PathLike[str], image_rgb_u8: npt.NDArray[np.uint8]) -> Path:
    """Write a picture in the format of the suffix, whole or not at all; returns the path.

    Raises BadInput for a suffix that cannot be written, OSError as the file system does.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise BadInput(f"{path}: cannot write this format; expected a name ending in {' '.join(sorted(WRITABLE))}")
    done, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image_rgb_u8, cv2.COLOR_RGB2BGR))
    if not done:
        raise BadInput(f"{path}: OpenCV cannot write {image_rgb_u8.shape[1]}x{image_rgb_u8.shape[0]} in this format")
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
    return path

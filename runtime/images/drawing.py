"""Boxes, names and scores drawn into images, and images written to files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.palette import class_colour

_FONT = cv2.FONT_HERSHEY_SIMPLEX
WRITABLE = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


def draw_boxes(
    image_rgb_u8: npt.NDArray[np.uint8],
    boxes_xyxy: npt.NDArray[np.float32],
    labels: Sequence[str],
    positions: Sequence[int],
) -> npt.NDArray[np.uint8]:
    """``draw_coloured`` with the colours of N classes, given by their positions in the model's categories."""
    return draw_coloured(image_rgb_u8, boxes_xyxy, labels, [class_colour(position) for position in positions])


def draw_coloured(
    image_rgb_u8: npt.NDArray[np.uint8],
    boxes_xyxy: npt.NDArray[np.float32],
    labels: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
) -> npt.NDArray[np.uint8]:
    """A copy of the image with one rectangle and label per box; the first box ends up on top.

    Labels do not cover each other: one that finds no free place at its box is left away, the last box's first. So is a
    text wider than the image. The colour still shows the class.

    Args:
        image_rgb_u8: [H, W, 3].
        boxes_xyxy: [N, 4] pixels.
        labels: N texts; none is drawn where a text is empty.
        colours: N of them, RGB.
    """
    canvas = np.array(image_rgb_u8, order="C")
    height, width = canvas.shape[:2]
    # Lines and letters grow with the image, and stay legible when a large one is shown small.
    line_px = max(1, round((height + width) / 700))
    scale = max(0.35, (height + width) / 3200)
    rows = list(zip(np.rint(boxes_xyxy).astype(int).tolist(), labels, colours, strict=True))
    for (left, top, right, bottom), _, colour in rows[::-1]:
        corner = (min(right, width - 1), min(bottom, height - 1))
        cv2.rectangle(canvas, (left, top), corner, colour, line_px, cv2.LINE_AA if line_px > 1 else cv2.LINE_8)
    taken: list[tuple[int, int, int, int]] = []  # plates drawn so far, x1 y1 x2 y2
    for box, label, colour in rows:  # after all rectangles, so that none crosses a text
        if not label:
            continue
        plate = _Plate.of(label, scale)
        where = _free_place(box, plate, (height, width), taken)
        if where is not None:
            taken.append((*where, where[0] + plate.width, where[1] + plate.height))
            _draw_plate(canvas, where, plate, colour)
    return canvas


@dataclass(frozen=True)
class _Plate:
    """A text and the rectangle behind it, in pixels; ``baseline`` is where the letters stand."""

    text: str
    scale: float
    stroke: int
    margin: int
    width: int
    height: int
    baseline: int

    @classmethod
    def of(cls, text: str, scale: float) -> _Plate:
        stroke, margin = max(1, round(scale * 1.5)), max(1, round(scale * 4))
        (text_w, text_h), below = cv2.getTextSize(text, _FONT, scale, stroke)
        return cls(text, scale, stroke, margin, text_w + 2 * margin, text_h + below + 2 * margin, margin + text_h)


def _free_place(
    box_xyxy: Sequence[int], plate: _Plate, image_hw: tuple[int, int], taken: Sequence[tuple[int, int, int, int]]
) -> tuple[int, int] | None:
    """Left and top of the plate: above or below the box, else at a corner inside it, wherever nothing is covered."""
    height, width = image_hw
    if plate.width > width or plate.height > height:
        return None
    left, top, right, bottom = box_xyxy
    flush_left, flush_right = left, right - plate.width
    inside = (max(top, 0), min(bottom, height) - plate.height)
    places = [(x, y) for y in (top - plate.height, bottom) for x in (flush_left, flush_right)]
    places += [(x, y) for y in inside for x in (flush_left, flush_right)]
    gap = plate.margin  # neighbours may share their margins, not their letters
    for x, y in places:
        x = min(max(x, 0), width - plate.width)
        covers = any(
            x + gap < x2 and x1 + gap < x + plate.width and y + gap < y2 and y1 + gap < y + plate.height
            for x1, y1, x2, y2 in taken
        )
        if 0 <= y <= height - plate.height and not covers:
            return x, y
    return None


def _draw_plate(
    canvas: npt.NDArray[np.uint8], where_xy: tuple[int, int], plate: _Plate, colour: tuple[int, int, int]
) -> None:
    x, y = where_xy
    cv2.rectangle(canvas, (x, y), (x + plate.width - 1, y + plate.height - 1), colour, cv2.FILLED)
    red, green, blue = colour
    ink = (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
    start = (x + plate.margin, y + plate.baseline)
    cv2.putText(canvas, plate.text, start, _FONT, plate.scale, ink, plate.stroke, cv2.LINE_AA)


def encoded_image(image_rgb_u8: npt.NDArray[np.uint8], suffix: str = ".png") -> bytes:
    """An image as the bytes of a file. Raises BadInput where OpenCV cannot write its size in this format."""
    done, encoded = cv2.imencode(suffix, cv2.cvtColor(image_rgb_u8, cv2.COLOR_RGB2BGR))
    if not done:
        height, width = image_rgb_u8.shape[:2]
        raise BadInput(f"OpenCV cannot write {width}x{height} pixels as {suffix}")
    return encoded.tobytes()


def encode_image(path: str | os.PathLike[str], image_rgb_u8: npt.NDArray[np.uint8]) -> Path:
    """Write an image in the format of the suffix, whole or not at all; returns the path.

    Raises BadInput for a suffix that cannot be written, OSError as the file system does.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise BadInput(f"{path}: cannot write this format; expected a name ending in {' '.join(sorted(WRITABLE))}")
    encoded = encoded_image(image_rgb_u8, path.suffix)
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded)
    return path

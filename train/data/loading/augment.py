"""Random flip, scale, place and colour of one training image.

The geometry is a window of the image laid onto the network input: one crop (a view), one resize with the
interpolation of ``prepare``, one flip of the small result. Without randomness it is ``prepare`` itself, pixel for
pixel, and shrinking aliases neither more nor less than it will at run time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import INTERPOLATION, placement
from aweigh.runtime.spec import InputSpec

_MIN_SIDE_PX = 2.0  # of what is left of a box; less cannot be learnt from
# Columns are the YIQ axes in RGB; turning I and Q turns the hue and leaves the luma alone.
_RGB_FROM_YIQ = np.array([[1.0, 0.956, 0.619], [1.0, -0.272, -0.647], [1.0, -1.106, 1.703]])
_YIQ_FROM_RGB = np.linalg.inv(_RGB_FROM_YIQ)


@dataclass(frozen=True)
class Augment:
    """How far each random change goes; 0 or False switches it off.

    Attributes:
        flip: probability of mirroring left and right, the image in its place.
        short_sides_px: multi-scale training of images resized by keep-ratio: the bound of the shorter side is one of
            these in place of the input's. Empty for one size.
        short_side_step_px: 0 takes the ``short_sides_px`` as a list; otherwise they are two, first and last of a range
            with this step.
        scale: the image is scaled by e^u, u uniform in [-scale, scale], against its size in ``prepare``.
        random_place: an image smaller than the input lies anywhere in it, of a larger one any part is shown. Without
            it, the upper left corners coincide, as in ``prepare``.
        shift: further shift, up to this fraction of the input's sides; the image may leave the input.
        brightness, contrast, saturation: factor uniform in [1 - x, 1 + x].
        hue: turn of the colour circle, uniform in [-x, x], 1 is the full circle.
        min_visible: a box with a smaller fraction of its area left in the input is no target.
    """

    flip: float = 0.5
    short_sides_px: tuple[int, ...] = ()
    short_side_step_px: int = 0
    scale: float = 0.25
    random_place: bool = True
    shift: float = 0.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.3
    hue: float = 0.02
    min_visible: float = 0.25

    def __post_init__(self) -> None:
        sides, step = self.short_sides_px, self.short_side_step_px
        if any(side < 1 for side in sides) or step < 0 or (step and (len(sides) != 2 or sides[0] > sides[1])):
            raise BadInput(
                f"augmentation: short_sides_px = {list(sides)}, short_side_step_px = {step}; expected a list of sides "
                "from 1, or first and last side of a range and its step"
            )
        for item in fields(self):
            if item.name.startswith("short_side"):
                continue
            value, largest = getattr(self, item.name), 2.0 if item.name == "scale" else 1.0
            if not 0 <= value <= largest:
                raise BadInput(f"augmentation: {item.name} = {value}; expected 0 to {largest:g}")

    def largest(self, spec: InputSpec) -> InputSpec:
        """The policy with the largest of the sizes. Raises BadInput where sizes vary and the input does not."""
        if not self.short_sides_px:
            return spec
        if spec.resize != "keep-ratio":
            raise BadInput(f"augmentation: short_sides_px needs --resize keep-ratio, got {spec.resize}")
        return _with_short_side(spec, max(self.short_sides_px))

    def drawn(self, spec: InputSpec, draw: float) -> InputSpec:
        """The policy at one of the sizes; ``draw`` in [0, 1) chooses."""
        if not self.short_sides_px:
            return spec
        sides: Sequence[int] = self.short_sides_px
        if self.short_side_step_px:
            sides = range(sides[0], sides[1] + 1, self.short_side_step_px)
        return _with_short_side(spec, sides[int(draw * len(sides))])


@dataclass(frozen=True)
class Axis:
    """Source pixels [from_px, to_px) of one axis land on input pixels [start_px, stop_px)."""

    from_px: int
    to_px: int
    start_px: int
    stop_px: int

    @property
    def scale(self) -> float:
        return (self.stop_px - self.start_px) / (self.to_px - self.from_px)


@dataclass(frozen=True)
class Variant:
    """What becomes of an image's pixels.

    Attributes:
        y, x: where the rows and the columns of a window of the image land.
        input_hw: (height, width) of the network input, in pixels.
        matrix: [3, 4] affine map of RGB grey levels; None where colours stay.
        flipped: whether the content is mirrored left and right, in its place.
    """

    y: Axis
    x: Axis
    input_hw: tuple[int, int]
    matrix: npt.NDArray[np.float32] | None
    flipped: bool

    @property
    def window_hw(self) -> tuple[int, int]:
        """(height, width) of the window, source pixels."""
        return self.y.to_px - self.y.from_px, self.x.to_px - self.x.from_px

    @property
    def content_hw(self) -> tuple[int, int]:
        """(height, width) of what it becomes, input pixels."""
        return self.y.stop_px - self.y.start_px, self.x.stop_px - self.x.start_px

    def window(self, image_rgb_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The pixels of an image that are shown; a view."""
        return image_rgb_u8[self.y.from_px : self.y.to_px, self.x.from_px : self.x.to_px]


def augment(
    image_rgb_u8: npt.NDArray[np.uint8],
    boxes_xyxy: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    rng: np.random.Generator,
    spec: InputSpec,
    config: Augment,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """One random variant of an image, as network input.

    Args:
        image_rgb_u8: [H, W, 3]; not written to.
        boxes_xyxy: [N, 4] pixels of the image.
        labels: [N].
        rng: all randomness; a fixed number of draws is taken from it.

    Returns:
        Input uint8 [h, w, 3], of the shape ``prepare`` gives the image at the side drawn; the M <= N boxes still
        visible enough, [M, 4] pixels of the input and within it; their labels [M].
    """
    variant, boxes, kept = choose((image_rgb_u8.shape[0], image_rgb_u8.shape[1]), boxes_xyxy, rng, spec, config)
    return draw(variant.window(image_rgb_u8), variant, spec), boxes, labels[kept]


def choose(
    image_hw: tuple[int, int],
    boxes_xyxy: npt.NDArray[np.float32],
    rng: np.random.Generator,
    spec: InputSpec,
    config: Augment,
) -> tuple[Variant, npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """One random variant of an image of ``image_hw`` pixels: all but its pixels, which ``draw`` gives.

    Returns:
        The variant; the boxes, as of ``augment``; and [N] which of the given ones they are.
    """
    draws = rng.uniform(size=11)
    where = placement(image_hw, config.drawn(spec, draws[10]))
    zoom = math.exp(config.scale * (2 * draws[0] - 1))
    axes = [
        _axis(
            length_px=where.original_hw[i],
            canvas_px=where.input_hw[i],
            scale=where.scale_xy[1 - i] * zoom,
            place=draws[1 + i] if config.random_place else 0.0,
            shift_px=config.shift * (2 * draws[3 + i] - 1) * where.input_hw[i],
        )
        for i in (0, 1)
    ]
    flipped = bool(draws[5] < config.flip)
    boxes, kept = _boxes(boxes_xyxy, axes[0], axes[1], flipped, config.min_visible)
    return Variant(axes[0], axes[1], where.input_hw, _colour_matrix(draws[6:10], config), flipped), boxes, kept


def draw(window_u8: npt.NDArray[np.uint8], variant: Variant, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """The network input [h, w, 3] that a variant makes of its window; ``device_pixels`` does the same with torch."""
    canvas = np.full((*variant.input_hw, 3), spec.pad_value, np.uint8)
    content = window_u8
    if variant.window_hw != variant.content_hw:
        size_wh = variant.content_hw[::-1]
        content = np.asarray(cv2.resize(window_u8, size_wh, interpolation=INTERPOLATION[spec.interpolation]), np.uint8)
    if variant.matrix is not None:
        content = np.asarray(cv2.transform(content, variant.matrix), np.uint8)
    if variant.flipped:
        content = np.asarray(cv2.flip(content, 1), np.uint8)
    canvas[variant.y.start_px : variant.y.stop_px, variant.x.start_px : variant.x.stop_px] = content
    return canvas


def _with_short_side(spec: InputSpec, short_px: int) -> InputSpec:
    # A bound of the shorter side above that of the longer one never binds.
    return replace(spec, size_hw=(min(short_px, spec.size_hw[1]), spec.size_hw[1]))


def _axis(length_px: int, canvas_px: int, scale: float, place: float, shift_px: float) -> Axis:
    """Where one axis of the image goes: ``place`` 0 to 1 shares out what is free, or what does not fit."""
    window_px = canvas_px / scale  # what the input shows, in source pixels
    origin = (length_px - window_px) * place - shift_px / scale
    # At least a source pixel stays in the window, however far the shift.
    from_px = min(max(0, round(origin)), length_px - 1)
    to_px = min(max(from_px + 1, round(origin + window_px)), length_px)
    start_px = min(max(0, round((from_px - origin) * scale)), canvas_px - 1)
    stop_px = min(max(start_px + 1, round((to_px - origin) * scale)), canvas_px)
    return Axis(from_px, to_px, start_px, stop_px)


def _colour_matrix(draws: npt.NDArray[np.float64], config: Augment) -> npt.NDArray[np.float32] | None:
    """[3, 4] affine map of RGB grey levels: all four changes of colour in one pass. None where none is asked for."""
    if not (config.brightness or config.contrast or config.saturation or config.hue):
        return None
    strengths = np.array([config.brightness, config.contrast, config.saturation, config.hue])
    brightness, contrast, saturation, turn = strengths * (2 * draws - 1)
    angle = 2 * math.pi * turn
    c, s = (1 + saturation) * math.cos(angle), (1 + saturation) * math.sin(angle)
    chroma = _RGB_FROM_YIQ @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ _YIQ_FROM_RGB
    gain = (1 + brightness) * (1 + contrast)
    offset = np.full(3, -128.0 * contrast * (1 + brightness))  # contrast turns about mid-grey
    return np.concatenate([gain * chroma, offset[:, None]], axis=1).astype(np.float32)


def _boxes(
    boxes_xyxy: npt.NDArray[np.float32], y: Axis, x: Axis, flipped: bool, min_visible: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Boxes in the input, and which of the given ones they are."""
    scale = np.array([x.scale, y.scale] * 2)
    offset = np.array([x.start_px - x.from_px * x.scale, y.start_px - y.from_px * y.scale] * 2)
    whole = boxes_xyxy.astype(np.float64).reshape(-1, 4) * scale + offset
    # To the content, not to the input: padding next to a cropped image shows nothing of the object.
    boxes = np.clip(whole, [x.start_px, y.start_px] * 2, [x.stop_px, y.stop_px] * 2)
    if flipped:
        boxes[:, [0, 2]] = x.start_px + x.stop_px - boxes[:, [2, 0]]
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = np.prod(whole[:, 2:] - whole[:, :2], axis=1)
    kept = (sides >= _MIN_SIDE_PX).all(axis=1) & (np.prod(sides, axis=1) >= min_visible * areas)
    return boxes[kept].astype(np.float32), kept

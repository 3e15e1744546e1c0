"""From a decoded image to the network input and back: the one implementation.

Training's validation, evaluation, the export receipt and the runtime all go through here, so that no two of them can
differ. Coordinates are continuous: an image of width W spans [0, W], pixel i covers [i, i + 1], and resizing to
``new_w`` maps x to x * (new_w / W), as OpenCV's and torch's half-pixel centres do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import InputSpec

# Thinner is no box: annotations of such are left out, and so are detections.
LEAST_SIDE_PX = 0.01
INTERPOLATION = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}


@dataclass(frozen=True)
class Placement:
    """Where an image lies inside the network input.

    Attributes:
        scale_xy: network pixels per original pixel, horizontally and vertically.
        pad: (left, top) in network pixels.
        input_hw: (height, width) of the network input.
        original_hw: (height, width) of the image.
    """

    scale_xy: tuple[float, float]
    pad: tuple[int, int]
    input_hw: tuple[int, int]
    original_hw: tuple[int, int]

    @property
    def content_hw(self) -> tuple[int, int]:
        """(height, width) of the resized image without padding, network pixels."""
        return (
            round(self.original_hw[0] * self.scale_xy[1]),
            round(self.original_hw[1] * self.scale_xy[0]),
        )

    def map(self, boxes_xyxy: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """[N, 4] original pixels to network pixels; not clipped."""
        scale = np.array([*self.scale_xy, *self.scale_xy], np.float64)
        shift = np.array([*self.pad, *self.pad], np.float64)
        return (np.asarray(boxes_xyxy, np.float64).reshape(-1, 4) * scale + shift).astype(np.float32)

    def unmap(self, boxes_xyxy: npt.NDArray[np.floating], clip: bool = True) -> npt.NDArray[np.float32]:
        """[N, 4] network pixels to original pixels; clipped to the image unless ``clip=False``."""
        scale = np.array([*self.scale_xy, *self.scale_xy], np.float64)
        shift = np.array([*self.pad, *self.pad], np.float64)
        height, width = self.original_hw
        boxes = (np.asarray(boxes_xyxy, np.float64).reshape(-1, 4) - shift) / scale
        if clip:
            boxes = np.clip(boxes, 0.0, [width, height, width, height])
        return boxes.astype(np.float32)

    def shows(self, boxes_xyxy: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """[N] whether a box in network pixels [N, 4] has an area within the image; others lie in the padding.

        The runtime, its views, the server and evaluation leave the others out by this.
        """
        return has_area(self.unmap(boxes_xyxy))


def has_area(boxes_xyxy: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """[N] whether both sides of a box, clipped to its image, are at least LEAST_SIDE_PX."""
    return np.asarray((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] >= LEAST_SIDE_PX).all(axis=1), np.bool_)


def placement(original_hw: tuple[int, int], spec: InputSpec) -> Placement:
    """Where ``prepare`` puts an image of ``original_hw`` pixels. Raises BadInput for an empty image."""
    height, width = original_hw
    if height < 1 or width < 1:
        raise BadInput(f"image of {width}x{height} pixels: expected at least 1x1")
    if spec.resize == "stretch":
        new_h, new_w = input_hw = spec.size_hw
    elif spec.resize == "letterbox":
        input_hw = spec.size_hw
        scale = min(input_hw[0] / height, input_hw[1] / width)
        new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
    else:
        short_px, long_px = spec.size_hw
        scale = min(short_px / min(height, width), long_px / max(height, width))
        # Halves go up, as in mmdet, whose models this policy is for.
        new_h, new_w = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
        multiple = spec.pad_multiple
        input_hw = (math.ceil(new_h / multiple) * multiple, math.ceil(new_w / multiple) * multiple)
    return Placement((new_w / width, new_h / height), (0, 0), input_hw, (height, width))


def resized_input(spec: InputSpec, size_hw: tuple[int, int]) -> InputSpec:
    """The policy with another size, as ``InputSpec.size_hw``.

    Raises:
        BadInput: the file takes only one size, or not this one.
    """
    changed = replace(spec, size_hw=size_hw)
    multiple = spec.pad_multiple
    if size_hw != spec.size_hw and not spec.dynamic_size:
        height, width = spec.size_hw
        raise BadInput(
            f"input of {size_hw[1]}x{size_hw[0]}: this file takes only {width}x{height}; export it with "
            "--dynamic-size, or once for each size"
        )
    if min(size_hw) < multiple or (spec.resize != "keep-ratio" and any(side % multiple for side in size_hw)):
        raise BadInput(f"input of {size_hw[1]}x{size_hw[0]}: expected positive multiples of {multiple}")
    return changed


def prepare(
    image_rgb_u8: npt.NDArray[np.uint8], spec: InputSpec, out: npt.NDArray[np.uint8] | None = None
) -> tuple[npt.NDArray[np.uint8], Placement]:
    """Resize and pad one image.

    Args:
        image_rgb_u8: [H, W, 3].
        spec: the policy. The channel order stays RGB whatever ``spec.color_order``: the graph does the rest.
        out: as for ``resize_into``; None for a new array.

    Returns:
        The network input [h, w, 3] uint8 and where the image lies in it.

    Raises:
        BadInput: the image is empty or not RGB uint8, or ``out`` has another shape or type than the result.
    """
    _require_rgb(image_rgb_u8)
    where = placement((image_rgb_u8.shape[0], image_rgb_u8.shape[1]), spec)
    if out is None:
        out = np.empty((*where.input_hw, 3), np.uint8)
    resize_into(out, image_rgb_u8, where, spec)
    return out, where


def resize_into(
    out: npt.NDArray[np.uint8], image_rgb_u8: npt.NDArray[np.uint8], where: Placement, spec: InputSpec
) -> None:
    """Write the network input of one image into a row of a batch.

    Args:
        out: [h, w, 3] uint8, C-contiguous; every pixel of it is written.
        image_rgb_u8: [H, W, 3].
        where: ``placement`` of the image.
        spec: the policy; its channel order plays no part, see ``prepare``.

    Raises:
        BadInput: the image is not RGB uint8, or ``out`` has another shape or type than the network input.
    """
    _require_rgb(image_rgb_u8)
    input_h, input_w = where.input_hw
    if out.shape != (input_h, input_w, 3) or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise BadInput(f"out: expected contiguous uint8 {[input_h, input_w, 3]}, got {out.dtype} {list(out.shape)}")
    new_h, new_w = where.content_hw
    content = out[:new_h, :new_w]
    if (new_h, new_w) == image_rgb_u8.shape[:2]:
        content[...] = image_rgb_u8
    else:
        source = np.ascontiguousarray(image_rgb_u8)
        cv2.resize(source, (new_w, new_h), dst=content, interpolation=INTERPOLATION[spec.interpolation])
    out[new_h:] = spec.pad_value
    out[:new_h, new_w:] = spec.pad_value


def _require_rgb(image_rgb_u8: npt.NDArray[np.uint8]) -> None:
    if image_rgb_u8.dtype != np.uint8 or image_rgb_u8.ndim != 3 or image_rgb_u8.shape[2] != 3:
        raise BadInput(f"image: expected uint8 [H, W, 3], got {image_rgb_u8.dtype} {list(image_rgb_u8.shape)}")

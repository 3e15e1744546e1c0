"""Taps: which pixels of an image make up each pixel of the network input, and with which weights, as OpenCV has it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aweigh.runtime.images.preprocess import Placement

_ONE = 2048  # 1.0 in the fixed point of OpenCV's INTER_LINEAR for 8 bits


@dataclass(frozen=True)
class Taps:
    """Of one axis of the network input; all arrays have its length.

    Attributes:
        first, second: the two pixels of the image, positions within it.
        near, far: their weights in 2048ths; both 0 in the padding.
        padding: the grey level of the padding; 0 where the image lies.
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    near: npt.NDArray[np.int32]
    far: npt.NDArray[np.int32]
    padding: npt.NDArray[np.int32]


def taps(stored_px: int, content_px: int, input_px: int, pad_value: int, outer_alone: bool) -> Taps:
    """Along one axis.

    Args:
        stored_px: pixels of the image.
        content_px: pixels of the network input that show it; those behind are padding.
        input_px: pixels of the network input.
        outer_alone: whether the outer pixel counts alone where the second one would lie beyond it, as along OpenCV's
            columns; along its rows it counts twice, which rounds otherwise.

    Example:
        >>> half = taps(4, 2, 3, 114, outer_alone=True)
        >>> half.first.tolist(), half.second.tolist(), half.near.tolist(), half.padding.tolist()
        ([0, 2, 0], [1, 3, 0], [1024, 1024, 0], [0, 0, 114])
    """
    scale = 1 / (content_px / stored_px)
    position = ((np.arange(content_px) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(position)
    share = position - first
    near = np.rint((np.float32(1) - share) * np.float32(_ONE)).astype(np.int32)
    far = np.rint(share * np.float32(_ONE)).astype(np.int32)
    low = first.astype(np.int64)
    if outer_alone:
        outside = (low < 0) | (low >= stored_px - 1)
        near, far = np.where(outside, _ONE, near).astype(np.int32), np.where(outside, 0, far).astype(np.int32)
        start = low.clip(0, stored_px - 1)
        end = (start + 1).clip(0, stored_px - 1)
    else:
        start, end = low.clip(0, stored_px - 1), (low + 1).clip(0, stored_px - 1)
    behind = (0, input_px - content_px)
    padding = np.pad(np.zeros(content_px, np.int32), behind, constant_values=pad_value)
    return Taps(np.pad(start, behind), np.pad(end, behind), np.pad(near, behind), np.pad(far, behind), padding)


def taps_of(where: Placement, pad_value: int) -> tuple[Taps, Taps]:
    """Of the rows and the columns of an image's place in the network input."""
    (content_h, content_w), (stored_h, stored_w), (input_h, input_w) = (
        where.content_hw,
        where.original_hw,
        where.input_hw,
    )
    rows = taps(stored_h, content_h, input_h, pad_value, outer_alone=False)
    columns = taps(stored_w, content_w, input_w, pad_value, outer_alone=True)
    return rows, columns

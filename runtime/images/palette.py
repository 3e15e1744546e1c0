"""The colours of classes: one palette for all images and pages."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

_LEVELS = 16  # of each channel among the candidates
_FIRST = (255, 34, 34)
_LEAST_SPREAD, _LEAST_LARGEST = 100, 150  # of a colour's channels: neither grey nor nearly black
_LUMA = (45.0, 225.0)
# Linear sRGB to CIE XYZ, each row divided by the white point D65.
_TO_XYZ = np.array(
    [
        [0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883],
    ]
)
# Distances are whole numbers of 1/16 CIELAB units, so that every machine finds the same farthest colour.
_STEPS_PER_UNIT = 16


def class_colour(position: int) -> tuple[int, int, int]:
    """RGB of the class at ``position`` in the model's categories, from 0.

    Each position has the colour that looks least like those before it, so the first classes differ most. The colours
    are the same in every run. There are more than 2,600; positions beyond them begin again.
    """
    candidates, _ = _candidates()
    position %= len(candidates)
    size = 64
    while size <= position:  # the beginning of a longer palette is the shorter one
        size *= 4
    red, green, blue = candidates[_order(min(size, len(candidates)))[position]].tolist()
    return red, green, blue


@cache
def _candidates() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """[K, 3] RGB, and [K, 3] their places in CIELAB."""
    levels = np.rint(np.linspace(0, 255, _LEVELS)).astype(np.int64)
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    largest, luma = rgb.max(axis=1), rgb @ np.array([0.299, 0.587, 0.114])
    vivid = (largest - rgb.min(axis=1) >= _LEAST_SPREAD) & (largest >= _LEAST_LARGEST)
    rgb = rgb[vivid & (luma >= _LUMA[0]) & (luma <= _LUMA[1])]
    return rgb, np.rint(_lab(rgb) * _STEPS_PER_UNIT).astype(np.int64)


def _lab(rgb: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """CIELAB of sRGB colours [K, 3] (CIE 15:2004, white point D65)."""
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116).T
    lab: npt.NDArray[np.float64] = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
    return lab


@cache
def _order(count: int) -> tuple[int, ...]:
    """Rows of the candidates: from the first colour on, always the one farthest from all that were taken."""
    rgb, lab = _candidates()
    taken = [int(np.flatnonzero((rgb == _FIRST).all(axis=1))[0])]
    nearest = ((lab - lab[taken[0]]) ** 2).sum(axis=1)
    while len(taken) < count:
        taken.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((lab - lab[taken[-1]]) ** 2).sum(axis=1))
    return tuple(taken)

"""Which points a truth looks at, listed as pairs.

The boxes of the truths are known on the host, and so are the sizes of all lists: they are computed there, on a few
numbers for each truth and level, and go to the device in one transfer that nothing waits for. The device writes the
pairs themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aweigh.train.dense.points import Points
from aweigh.train.kernels.overlap import columns_at
from aweigh.train.kernels.transfer import on_device
from aweigh.train.methods.candidates import Pairs
from aweigh.train.methods.values import Targets

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.int64]
# (boxes_xyxy [N, 4], strides [N, 1]) -> boxes [N, 4]; every truth comes once per level
Region = Callable[[Floats, Floats], Floats]


def inside_pairs(points: Points, targets: Targets, region: Region | None = None) -> Pairs:
    """Pairs in which the point lies strictly inside the truth's box (all four distances > 0).

    Args:
        region: boxes that the point must also lie strictly inside of, for centre sampling.
    """

    def bounds(boxes_xyxy: Floats, stride: Floats) -> Floats:
        return boxes_xyxy if region is None else _meet(boxes_xyxy, region(boxes_xyxy, stride))

    return pairs_within(points, targets, bounds)


def pairs_within(points: Points, targets: Targets, bounds_of: Region, truths: Integers | None = None) -> Pairs:
    """Pairs in which the point lies strictly inside the bounds that each level gives to the truth.

    By level, then by truth, then row by row.

    Args:
        truths: the truths that are looked at; None for all.
    """
    return _listed(_rows(points, targets, bounds_of, truths), targets)


def inside_or_nearest_pairs(points: Points, targets: Targets) -> tuple[Pairs, int]:
    """:func:`inside_pairs`, and after them the :func:`nearest_pairs` of the truths that hold no point.

    Returns:
        The pairs, and how many of them are inside.
    """
    rows = _rows(points, targets, lambda boxes_xyxy, stride: boxes_xyxy)
    held = rows[0].reshape(len(points.strides), -1).sum(axis=0)
    lone = np.flatnonzero(held == 0)
    return _listed(np.concatenate((rows, _single_rows(points, targets, lone)), axis=1), targets), int(held.sum())


def nearest_pairs(points: Points, targets: Targets) -> Pairs:
    """Every truth with the point of the finest level that is nearest to its centre."""
    return _listed(_single_rows(points, targets, np.arange(len(targets))), targets)


def centre_region(radius: float) -> Region:
    """The square of ``radius`` strides around each box's centre (FCOS' centre sampling)."""

    def region(boxes_xyxy: Floats, stride: Floats) -> Floats:
        centre = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
        return np.concatenate((centre - radius * stride, centre + radius * stride), axis=1)

    return region


def level_table(points: Points, truths: int, dtype: Any) -> tuple[Integers, Integers, Floats]:
    """Of each level, for every truth: columns and rows [levels * G, 2], first point [levels * G], stride [.., 1]."""
    limits = np.array([[columns, rows] for rows, columns in points.shapes_hw], dtype=np.int64)
    starts = np.array([0, *itertools.accumulate(points.level_sizes)][: len(limits)], dtype=np.int64)
    strides = np.array(points.strides, dtype=dtype)[:, None]
    return limits.repeat(truths, axis=0), starts.repeat(truths), strides.repeat(truths, axis=0)


def _rows(points: Points, targets: Targets, bounds_of: Region, truths: Integers | None = None) -> Integers:
    """[6, levels * truths]: of each level and truth the number of pairs, and what :func:`_listed` makes them of.

    Strides are powers of two, so that dividing by them is exact, and a side that falls on a point is seen to.
    """
    boxes, image = targets.on_host
    looked_at = np.arange(len(boxes)) if truths is None else truths
    boxes = boxes[looked_at]
    limit, start, stride = level_table(points, len(boxes), boxes.dtype)
    levels = len(points.strides)
    scaled = bounds_of(np.tile(boxes, (levels, 1)), stride) / stride - points.offset
    low = np.minimum(np.maximum(np.floor(scaled[:, :2]) + 1, 0), limit).astype(np.int64)
    high = np.minimum(np.maximum(np.ceil(scaled[:, 2:]) - 1, -1), limit - 1).astype(np.int64)
    width, height = np.maximum(high - low + 1, 0).T
    first, step = start + low[:, 1] * limit[:, 0] + low[:, 0], limit[:, 0] - width
    truth = np.tile(looked_at, levels)
    return np.stack((width * height, width, first, step, truth, image[truth]))


def _single_rows(points: Points, targets: Targets, truths: Integers) -> Integers:
    """As :func:`_rows`, for one pair of each of some truths: with the nearest point of the finest level."""
    (rows, columns), stride = points.shapes_hw[0], points.strides[0]
    boxes, image = targets.on_host[0][truths], targets.on_host[1][truths]
    place = np.rint((boxes[:, :2] + boxes[:, 2:]) / 2 / stride - points.offset).astype(np.int64)
    point = place[:, 1].clip(0, rows - 1) * columns + place[:, 0].clip(0, columns - 1)
    one = np.ones_like(point)
    return np.stack((one, one, point, 0 * one, truths, image))


def _listed(rows: Integers, targets: Targets) -> Pairs:
    """The pairs of all rows, on the device of the targets."""
    end = rows[0].cumsum()
    pairs = int(end[-1]) if len(end) else 0
    device = targets.boxes_xyxy.device
    table = on_device(torch.from_numpy(np.concatenate((rows, (end - rows[0])[None]))), device)
    row = torch.repeat_interleave(table[0], output_size=pairs)
    # One gather for what a pair needs of its (level, truth).
    width, first, step, truth, image, before = columns_at(table[1:], row).unbind(0)
    nth = torch.arange(pairs, device=device) - before
    point = torch.div(nth, width, rounding_mode="floor").mul_(step).add_(first).add_(nth)
    return Pairs(point, truth, image, len(targets))


def _meet(a_xyxy: Floats, b_xyxy: Floats) -> Floats:
    return np.concatenate((np.maximum(a_xyxy[:, :2], b_xyxy[:, :2]), np.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:])), axis=1)

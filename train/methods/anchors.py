"""Square anchors, one per point, and which truths they are matched with (stage 1 of PAA, as its authors' code).

``extra`` is what a box covers beyond the distance of its corners: 1 pixel where the last one counts to it
(w = x2 - x1 + 1, as in the authors' code), or 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aweigh.train.dense.points import Points
from aweigh.train.kernels.overlap import columns_at, grown_overlap
from aweigh.train.kernels.transfer import on_device
from aweigh.train.methods.candidates import Pairs, sole_owner
from aweigh.train.methods.listing import Floats, Integers, level_table, pairs_within
from aweigh.train.methods.values import Targets

_LEAST_GAIN = 0.01  # of the mean IoU: less is no reason to leave the authors' scale


def best_iou(sizes_px: npt.NDArray[np.floating[Any]], scale: int, strides: Sequence[int]) -> npt.NDArray[np.float64]:
    """[N] IoU of boxes of width and height [N, 2] with the square anchor of the level that fits best, both at one
    centre.

    Args:
        sizes_px: in pixels of the network input, above 0.
        scale: side of an anchor, in strides.
        strides: of the levels, pixels.

    Example:
        >>> best_iou(np.array([[24.0, 24.0], [64.0, 128.0]]), 8, (8, 16)).round(3).tolist()
        [0.141, 0.5]
    """
    sizes = np.asarray(sizes_px, np.float64)
    if not len(sizes):
        return np.zeros(0)
    tables = []
    for stride in strides:
        side = float(scale * stride)
        shared = np.minimum(sizes, side).prod(axis=1)
        tables.append(shared / (sizes.prod(axis=1) + side**2 - shared))
    return np.asarray(np.max(tables, axis=0), np.float64)


def fitting_scale(sizes_px: npt.NDArray[np.floating[Any]], strides: Sequence[int], authors: int) -> tuple[int, str]:
    """Side of the anchors in strides, from 1 to the authors', that fits boxes best, and why in words.

    Best is the largest mean of :func:`best_iou`. The authors' stays where no other is better by 0.01; larger ones were
    never tried.
    """
    means = {scale: float(best_iou(sizes_px, scale, strides).mean()) for scale in range(authors, 0, -1)}
    best = max(means, key=lambda scale: means[scale])
    chosen = best if means[best] >= means[authors] + _LEAST_GAIN else authors
    sides = ", ".join(str(chosen * stride) for stride in strides)
    why = f"anchors of {sides} px fit the {len(sizes_px)} boxes of training by a mean IoU of {means[chosen]:.2f}"
    return chosen, why if chosen == authors else f"{why} ({means[authors]:.2f} with the authors' {authors})"


def anchors_xyxy(points: Points, scale: int, extra: float = 1.0) -> Tensor:
    """Corners [P, 4] of all anchors, ``scale`` strides wide."""
    half = (scale * points.stride[:, None] - extra) / 2
    return torch.cat((points.xy - half, points.xy + half), dim=1)


@torch.no_grad()
def match_anchors(points: Points, targets: Targets, scale: int, min_iou: float, extra: float = 1.0) -> Pairs:
    """The anchors of each truth; an anchor belongs to one truth at most.

    An anchor is matched where its best truth covers it by ``min_iou``, or where it is the best anchor of any truth.
    The second only adds to the first where a truth's best anchor stays below that IoU; those few truths are looked at
    apart, so that only pairs near the least IoU or above it are listed. The host waits once, for both counts.
    """
    truths_xyxy, cells = targets.boxes_xyxy.to(points.xy.dtype), len(points.xy) * len(targets.per_image())
    pairs = pairs_within(points, targets, lambda boxes, stride: _reach(boxes, scale * stride, min_iou, extra))
    anchors = anchors_xyxy(points, scale, extra)
    overlap = grown_overlap(anchors, pairs.point, truths_xyxy, pairs.truth, extra)
    cell, reached = pairs.cell(len(points.xy)), overlap >= min_iou
    merit = torch.where(reached, overlap, -torch.inf)
    owned = sole_owner(pairs, merit, cell, cells) & reached
    poor = _perhaps_poor(points, targets, scale, min_iou, extra)
    if not len(poor):
        return pairs.take(owned)
    best = _best_of_poor(points, targets, poor, anchors, truths_xyxy, scale, min_iou, extra)
    # Where any truth reaches an anchor by the least IoU, none of those below it gets it.
    best = best.index_fill_(0, torch.where(reached, cell, cells), False)[:cells]
    listed, more = torch.stack((owned.sum(), best.sum())).tolist()
    pairs = pairs.take(torch.nonzero_static(owned, size=listed)[:, 0])
    if not more:
        return pairs
    return pairs.join(_owners(anchors, targets, torch.nonzero_static(best, size=more)[:, 0], truths_xyxy, extra))


def _reach(boxes_xyxy: Floats, side: Floats, min_iou: float, extra: float) -> Floats:
    """Bounds around the points whose anchors can have the least IoU with each box; a little too wide.

    With an overlap of ox by oy, IoU >= t means ox oy >= t / (1 + t) (area + anchor area); oy is at most the smaller
    height, so ox is at least that over it, and ox falls with the distance of the centres.
    """
    size = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] + extra
    needed = min_iou / (1 + min_iou) * (size.prod(axis=1, keepdims=True) + side**2)
    most = np.minimum(size, side)
    least = needed / np.maximum(most[:, ::-1], 1e-6)
    distance = (size + side) / 2 - least
    # A side that must overlap by more than it has: no anchor of this level can.
    distance = np.where((least <= most + 1e-3).all(axis=1, keepdims=True), distance, -1e6)
    centre = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    return np.concatenate((centre - distance - 1e-2, centre + distance + 1e-2), axis=1)


def _perhaps_poor(points: Points, targets: Targets, scale: int, min_iou: float, extra: float) -> Integers:
    """The truths [n] that no anchor covers by the least IoU, and a few that one hardly does.

    Of a level's anchors, all of one size, the one nearest to a truth's centre covers it best.
    """
    boxes = targets.on_host[0]
    levels = len(points.strides)
    limit, _, stride = level_table(points, len(boxes), boxes.dtype)
    tiled = np.tile(boxes, (levels, 1))
    place = np.rint((tiled[:, :2] + tiled[:, 2:]) / 2 / stride - points.offset).clip(0, limit - 1)
    centre, half = (place + points.offset) * stride, (scale * stride - extra) / 2
    low, high = np.maximum(tiled[:, :2], centre - half), np.minimum(tiled[:, 2:], centre + half)
    overlap = np.maximum(high - low + extra, 0).prod(axis=1)
    area = (tiled[:, 2:] - tiled[:, :2] + extra).prod(axis=1)
    highest = (overlap / (area + (scale * stride[:, 0]) ** 2 - overlap)).reshape(levels, -1).max(axis=0)
    return np.flatnonzero(~(highest > min_iou * (1 + 1e-3)))


def _best_of_poor(
    points: Points,
    targets: Targets,
    poor: Integers,
    anchors: Tensor,
    truths_xyxy: Tensor,
    scale: int,
    min_iou: float,
    extra: float,
) -> Tensor:
    """[B * P + 1] bool: the best anchors of truths that none reaches by the least IoU; the last has no meaning."""

    def touching(boxes_xyxy: Floats, stride: Floats) -> Floats:
        reach = (scale * stride - extra) / 2 + 1
        return np.concatenate((boxes_xyxy[:, :2] - reach, boxes_xyxy[:, 2:] + reach), axis=1)

    pairs = pairs_within(points, targets, touching, poor)
    overlap = grown_overlap(anchors, pairs.point, truths_xyxy, pairs.truth, extra)
    top = (overlap == pairs.of_truth(pairs.max(overlap))) & (overlap < min_iou)
    cells = len(points.xy) * len(targets.per_image())
    best = torch.zeros(cells + 1, dtype=torch.bool, device=overlap.device)
    return best.index_fill_(0, torch.where(top, pairs.cell(len(points.xy)), cells), True)


def _owners(anchors: Tensor, targets: Targets, cell: Tensor, truths_xyxy: Tensor, extra: float) -> Pairs:
    """Some cells [n] with the truth of their image that covers each best, the first of equals."""
    counts = np.array(targets.per_image())
    # Truths of each image, as a table; its first fills up a shorter row.
    place, start = np.arange(counts.max()), (counts.cumsum() - counts)[:, None]
    table = on_device(torch.from_numpy(start + np.where(place < counts[:, None], place, 0)), cell.device)
    image = torch.div(cell, len(anchors), rounding_mode="floor")
    point, of_image = cell - image * len(anchors), table.index_select(0, image)
    # Coordinates side by side, never as an inner four.
    x1, y1, x2, y2 = columns_at(anchors.t(), point)[..., None].unbind()
    truths = columns_at(truths_xyxy.t(), of_image.flatten()).view(4, *of_image.shape).unbind()
    overlap = grown_iou((x1, y1, x2, y2), truths, extra)
    truth = of_image.gather(1, overlap.argmax(dim=1, keepdim=True))[:, 0]
    return Pairs(point, truth, image, len(targets))


def grown_iou(a_xyxy: Sequence[Tensor], b_xyxy: Sequence[Tensor], extra: float = 1.0) -> Tensor:
    """IoU of boxes, whose coordinates broadcast, both grown by ``extra`` pixels at their ends."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a_xyxy, b_xyxy
    ax2, ay2, bx2, by2 = ax2 + extra, ay2 + extra, bx2 + extra, by2 + extra
    overlap = torch.minimum(ax2, bx2).sub_(torch.maximum(ax1, bx1)).clamp_(min=0)
    overlap = overlap * torch.minimum(ay2, by2).sub_(torch.maximum(ay1, by1)).clamp_(min=0)
    return overlap / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - overlap)

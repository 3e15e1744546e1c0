"""Square anchors, one per point, and which truths they are matched with (stage 1 of PAA, as its authors' code).

``extra`` is what a box covers beyond the distance of its corners: 1 pixel where the last one counts to it
(w = x2 - x1 + 1, as in the authors' code), or 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aweigh.train.dense.boxes import intersection
from aweigh.train.dense.points import Points
from aweigh.train.methods.candidates import Pairs, pairs_within, sole_owner
from aweigh.train.methods.values import Targets


def anchors_xyxy(points: Points, point: Tensor, scale: int, extra: float = 1.0) -> Tensor:
    """Corners [N, 4] of the anchors, ``scale`` strides wide, at some points [N]."""
    half = (scale * points.stride.index_select(0, point)[:, None] - extra) / 2
    centre = points.xy.index_select(0, point)
    return torch.cat((centre - half, centre + half), dim=1)


@torch.no_grad()
def match_anchors(points: Points, targets: Targets, scale: int, min_iou: float, extra: float = 1.0) -> Pairs:
    """The anchors of each truth; an anchor belongs to one truth at most.

    An anchor is matched where its best truth covers it by ``min_iou``, or where it is the best anchor of any truth.
    The second only adds to the first where a truth's best anchor stays below that IoU; those few truths are looked at
    apart, so that only pairs near the least IoU or above it are listed.
    """
    truths_xyxy = targets.boxes_xyxy.to(points.xy.dtype)
    pairs = pairs_within(points, targets, lambda boxes, stride: _reach(boxes, float(scale * stride), min_iou, extra))
    overlap = _overlap(points, pairs, truths_xyxy, scale, extra)
    near = torch.nonzero(overlap >= min_iou)[:, 0]
    pairs, overlap = pairs.take(near), overlap.index_select(0, near)
    poor = torch.nonzero(~(pairs.max(overlap) >= min_iou))[:, 0]
    if len(poor):
        more = _best_of_poor(points, targets, poor, scale, extra)
        more_overlap = _overlap(points, more, truths_xyxy, scale, extra)
        new = torch.nonzero(more_overlap < min_iou)[:, 0]  # the others are listed already
        pairs, overlap = pairs.join(more.take(new)), torch.cat((overlap, more_overlap.index_select(0, new)))
    return pairs.take(sole_owner(pairs, overlap, pairs.cell(len(points.xy))))


def _overlap(points: Points, pairs: Pairs, truths_xyxy: Tensor, scale: int, extra: float) -> Tensor:
    return grown_iou(anchors_xyxy(points, pairs.point, scale, extra), pairs.of_truth(truths_xyxy), extra)


def _reach(boxes_xyxy: Tensor, side: float, min_iou: float, extra: float) -> Tensor:
    """Bounds around the points whose anchors can have the least IoU with each box; a little too wide.

    With an overlap of ox by oy, IoU >= t means ox oy >= t / (1 + t) (area + anchor area); oy is at most the smaller
    height, so ox is at least that over it, and ox falls with the distance of the centres.
    """
    size = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] + extra
    needed = min_iou / (1 + min_iou) * (size.prod(dim=1, keepdim=True) + side**2)
    most = size.clamp(max=side)
    least = needed / most.flip(1)
    distance = (size + side) / 2 - least
    # A side that must overlap by more than it has: no anchor of this level can.
    distance = torch.where((least <= most + 1e-3).all(dim=1, keepdim=True), distance, -1e6)
    centre = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    return torch.cat((centre - distance - 1e-2, centre + distance + 1e-2), dim=1)


def _best_of_poor(points: Points, targets: Targets, poor: Tensor, scale: int, extra: float) -> Pairs:
    """The best anchors of truths that none reaches by the least IoU, each with every truth of its image."""

    def touching(boxes_xyxy: Tensor, stride: int) -> Tensor:
        reach = (scale * stride - extra) / 2 + 1
        return boxes_xyxy + boxes_xyxy.new_tensor([-reach, -reach, reach, reach])

    some = Targets(targets.boxes_xyxy[poor].to(points.xy.dtype), targets.labels[poor], targets.image[poor])
    pairs = pairs_within(points, some, touching)
    overlap = _overlap(points, pairs, some.boxes_xyxy, scale, extra)
    cell = torch.unique(pairs.cell(len(points.xy))[overlap == pairs.of_truth(pairs.max(overlap))])
    image, point = cell // len(points.xy), cell % len(points.xy)
    nth, truth = torch.nonzero(image[:, None] == targets.image, as_tuple=True)
    return Pairs(point[nth], truth, image[nth], len(targets))


def grown_iou(a_xyxy: Tensor, b_xyxy: Tensor, extra: float = 1.0) -> Tensor:
    """IoU of boxes that broadcast, both grown by ``extra`` pixels at their ends."""
    grow = a_xyxy.new_tensor([0.0, 0.0, extra, extra])
    a, b = a_xyxy + grow, b_xyxy + grow
    overlap = intersection(a, b)
    sizes = [(box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]) for box in (a, b)]
    return overlap / (sizes[0] + sizes[1] - overlap)

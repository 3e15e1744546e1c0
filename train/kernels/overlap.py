"""IoU and generalised IoU of listed pairs of boxes, and their slope.

Coordinates lie in rows [4, N], both axes of a side together: half the calls, and long inner loops.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from aweigh.train.kernels.operators import register


def columns_at(table: Tensor, index: Tensor) -> Tensor:
    """[k, N] some columns of a table [k, M]: one call, and on a CPU a third of ``index_select``'s time."""
    return table.gather(1, index.expand(len(table), -1))


def _overlap(boxes_xyxy: Tensor, row: Tensor, truths_xyxy: Tensor, truth: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    meeting = _Meeting(columns_at(boxes_xyxy.t(), row), columns_at(truths_xyxy.t(), truth))
    overlap, union, around = meeting.areas()
    union, around = union.clamp_(min=eps), around.clamp_(min=eps)
    ratio = overlap / union
    return ratio, ratio - (around - union) / around


def _grown(boxes_xyxy: Tensor, row: Tensor, truths_xyxy: Tensor, truth: Tensor, extra: float) -> Tensor:
    a, b = columns_at(boxes_xyxy.t(), row), columns_at(truths_xyxy.t(), truth)
    if extra:
        a[2:] += extra
        b[2:] += extra
    overlap, union = _Meeting(a, b).shared()
    return overlap.div_(union)


def _slope(
    grad_iou: Tensor,
    grad_giou: Tensor,
    boxes_xyxy: Tensor,
    row: Tensor,
    truths_xyxy: Tensor,
    truth: Tensor,
    eps: float,
) -> Tensor:
    a, b = columns_at(boxes_xyxy.t(), row), columns_at(truths_xyxy.t(), truth)
    meeting = _Meeting(a, b)
    overlap, union, around = meeting.areas()
    real, enclosed = union >= eps, around >= eps
    union, around = union.clamp_(min=eps), around.clamp_(min=eps)
    # giou = overlap / union - 1 + union / around, union = area a + area b - overlap
    to_ratio = (grad_iou + grad_giou) / union
    share = grad_giou / around
    to_around = (share * union).div_(around).mul_(enclosed).neg_()
    to_union = (share - to_ratio * overlap / union).mul_(real)
    to_overlap = to_ratio - to_union
    # [2, N]: what one pixel more of a side's length is worth, by way of overlap, enclosing box and own area
    to_inner = meeting.inner.clamp(min=0).flip(0).mul_(to_overlap).mul_(meeting.inner >= 0)
    to_outer = meeting.outer.flip(0).mul_(to_around)
    to_own = meeting.size_a.flip(0).mul_(to_union).add_(to_outer)
    # Share of a's side in the smaller of two sides; a half where they are equal, as torch's own.
    beyond = b - a
    beyond[:2].neg_()
    nearer = torch.heaviside(beyond, beyond.new_full((), 0.5)).view(2, 2, -1)
    slope = torch.addcmul(to_own, nearer, to_inner.sub_(to_outer)).view(4, -1)
    slope[:2].neg_()
    grad = torch.zeros(4, len(boxes_xyxy), dtype=boxes_xyxy.dtype, device=boxes_xyxy.device)
    for side in range(4):
        grad[side].index_add_(0, row, slope[side])
    return grad.t()


class _Meeting:
    """Lengths [2, N] of the overlap (below 0 where there is none), and of both boxes."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.inner = torch.minimum(a[2:], b[2:]).sub_(torch.maximum(a[:2], b[:2]))
        self.a, self.b = a, b
        self.size_a, self.size_b = a[2:] - a[:2], b[2:] - b[:2]

    @cached_property
    def outer(self) -> Tensor:
        """Lengths [2, N] of the smallest box around both."""
        return torch.maximum(self.a[2:], self.b[2:]).sub_(torch.minimum(self.a[:2], self.b[:2]))

    def shared(self) -> tuple[Tensor, Tensor]:
        """[N] of overlap and union."""
        inner = self.inner.clamp(min=0)
        overlap = inner[0] * inner[1]
        return overlap, (self.size_a[0] * self.size_a[1]).addcmul_(self.size_b[0], self.size_b[1]).sub_(overlap)

    def areas(self) -> tuple[Tensor, Tensor, Tensor]:
        """[N] of overlap, union and smallest box around both."""
        outer = self.outer.clamp(min=0)
        return *self.shared(), outer[0] * outer[1]


# Both [N], of boxes [M, 4] at rows [N] with truths [G, 4] at places [N].
paired_overlap = register(
    "paired_overlap(Tensor boxes_xyxy, Tensor row, Tensor truths_xyxy, Tensor truth, float eps) -> (Tensor, Tensor)",
    _overlap,
    "overlap:paired_overlap",
    launches=1,
)
# [N] IoU alone, of boxes that are ``extra`` longer at their ends, without gradient; the union must not be 0.
grown_overlap = register(
    "grown_overlap(Tensor boxes_xyxy, Tensor row, Tensor truths_xyxy, Tensor truth, float extra) -> Tensor",
    _grown,
    "overlap:grown_overlap",
    launches=1,
)
# The gradient [M, 4] of the boxes, from those of both ratios.
paired_overlap_slope = register(
    "paired_overlap_slope(Tensor grad_iou, Tensor grad_giou, Tensor boxes_xyxy, Tensor row, Tensor truths_xyxy, "
    "Tensor truth, float eps) -> Tensor",
    _slope,
    "overlap:paired_overlap_slope",
    launches=2,
)

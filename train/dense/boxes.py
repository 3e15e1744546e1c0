"""Box arithmetic in torch: pure, differentiable, element by element; a docstring states where a table is pairwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aweigh.train.kernels.overlap import paired_overlap, paired_overlap_slope


def ltrb_to_xyxy(points_xy: Tensor, ltrb: Tensor) -> Tensor:
    """Distances to the left, top, right and bottom side [..., 4] at points [..., 2] as corners [..., 4]."""
    return torch.cat((points_xy - ltrb[..., :2], points_xy + ltrb[..., 2:]), dim=-1)


def xyxy_to_ltrb(points_xy: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Signed distances from points [..., 2] to the sides of boxes [..., 4]; all positive means strictly inside."""
    return torch.cat((points_xy - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - points_xy), dim=-1)


def area(boxes_xyxy: Tensor) -> Tensor:
    """[...] square pixels, without the +1 of early detection code."""
    x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
    return (x2 - x1) * (y2 - y1)


def intersection(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Overlap area of boxes that broadcast against each other."""
    # Side by side, never [..., 2]: inner loops of two elements cost several times as much.
    ax1, ay1, ax2, ay2 = a_xyxy.unbind(-1)
    bx1, by1, bx2, by2 = b_xyxy.unbind(-1)
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    return width * height


def enclosure(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Area of the smallest box around both, of boxes that broadcast against each other."""
    ax1, ay1, ax2, ay2 = a_xyxy.unbind(-1)
    bx1, by1, bx2, by2 = b_xyxy.unbind(-1)
    width = (torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)).clamp(min=0)
    height = (torch.maximum(ay2, by2) - torch.minimum(ay1, by1)).clamp(min=0)
    return width * height


def iou(a_xyxy: Tensor, b_xyxy: Tensor, eps: float = 1e-6) -> Tensor:
    """Intersection over union, 0 to 1, of boxes that broadcast; the union is at least ``eps``, as in mmdet."""
    overlap = intersection(a_xyxy, b_xyxy)
    return overlap / (area(a_xyxy) + area(b_xyxy) - overlap).clamp(min=eps)


@dataclass(frozen=True)
class Extents:
    """Boxes as a comparison of all pairs reads them: x and y are an axis in front of the boxes.

    Half as many operators in an exported graph as with x and y apart, computed once for all comparisons.

    Attributes:
        xyxy: [..., K, 4] the boxes.
        low, high: [..., 2, K] corners.
        area: [..., 1, K].
    """

    xyxy: Tensor
    low: Tensor
    high: Tensor
    area: Tensor

    @classmethod
    def of(cls, boxes_xyxy: Tensor) -> Self:
        """Of boxes [..., K, 4]."""
        corners = boxes_xyxy.transpose(-1, -2)
        low, high = corners[..., :2, :], corners[..., 2:, :]
        return cls(boxes_xyxy, low, high, (high - low).prod(dim=-2, keepdim=True))

    def first(self, count: int) -> Self:
        """The first so many boxes."""
        low, high = self.low[..., :count], self.high[..., :count]
        return type(self)(self.xyxy[..., :count, :], low, high, self.area[..., :count])


def pairwise_iou(a: Extents, b: Extents, eps: float = 1e-6) -> Tensor:
    """:func:`iou` of each of M boxes with each of N, [..., M, N]: the same numbers."""
    high = torch.minimum(a.high[..., None], b.high[..., None, :])
    sides = high - torch.maximum(a.low[..., None], b.low[..., None, :])
    width, height = sides.relu().unbind(dim=-3)  # a clamp would be a constant more
    return _ratio(width * height, a, b, eps)


def pairwise_iou_or_less(a: Extents, b: Extents, eps: float = 1e-6) -> Tensor:
    """:func:`pairwise_iou` where two boxes overlap, else 0 or a negative number; for a threshold of at least 0.

    In fewer passes over memory and with smaller tensors, but five operators more: for many boxes.
    """
    high = a.high.transpose(-1, -2)  # columns; its indices are those of the other corners, and constants of the file
    width, height = (
        torch.minimum(high[..., axis : axis + 1], b.high[..., axis : axis + 1, :])
        - torch.maximum(a.xyxy[..., axis : axis + 1], b.low[..., axis : axis + 1, :])
        for axis in (0, 1)
    )
    return _ratio(width.relu() * height, a, b, eps)


def _ratio(overlap: Tensor, a: Extents, b: Extents, eps: float) -> Tensor:
    # Of width and height multiplied: ONNX Runtime's product over an axis takes several times as long.
    return overlap / (a.area.transpose(-1, -2) + b.area - overlap).clamp(min=eps)


def iou_and_giou(a_xyxy: Tensor, b_xyxy: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """IoU (0 to 1) and generalised IoU (-1 to 1, arXiv 1902.09630 Eq. 1) of boxes that broadcast."""
    overlap = intersection(a_xyxy, b_xyxy)
    union = (area(a_xyxy) + area(b_xyxy) - overlap).clamp(min=eps)
    around = enclosure(a_xyxy, b_xyxy).clamp(min=eps)
    ratio = overlap / union
    return ratio, ratio - (around - union) / around


def paired_iou_and_giou(
    boxes_xyxy: Tensor, row: Tensor, truths_xyxy: Tensor, truth: Tensor, eps: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """:func:`iou_and_giou` of ``boxes_xyxy[row]`` and ``truths_xyxy[truth]``, with the gradient of the boxes.

    Gathers, overlaps and their gradient as one autograd function: it keeps no tensor of the pairs alive, and takes
    about a third of the time of its parts.

    Args:
        boxes_xyxy: [M, 4]; truths_xyxy: [G, 4], of the same type, without gradient.
        row, truth: [N] int64.
    """
    ratios: tuple[Tensor, Tensor] = _PairedOverlap.apply(boxes_xyxy, row, truths_xyxy, truth, eps)  # type: ignore[no-untyped-call]
    return ratios


class _PairedOverlap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, boxes_xyxy: Tensor, row: Tensor, truths_xyxy: Tensor, truth: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(boxes_xyxy, row, truths_xyxy, truth)
        ctx.eps = eps
        return paired_overlap(boxes_xyxy, row, truths_xyxy, truth, eps)  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_iou: Tensor, grad_giou: Tensor) -> tuple[Tensor | None, ...]:
        return paired_overlap_slope(grad_iou, grad_giou, *ctx.saved_tensors, ctx.eps), None, None, None, None

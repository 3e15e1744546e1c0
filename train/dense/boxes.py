"""Box arithmetic in torch: pure, differentiable, element by element; a docstring states where a table is pairwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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


def highest_iou(boxes_xyxy: Tensor, others_xyxy: Tensor, eps: float = 1e-6) -> Tensor:
    """[n] highest :func:`iou` of each box [n, 4] with any other [k, 4], k at least 1; makes tables of n x k."""
    a, b = boxes_xyxy[:, :, None].unbind(1), others_xyxy.t().contiguous().unbind(0)
    overlap = torch.minimum(a[2], b[2]).sub_(torch.maximum(a[0], b[0])).clamp_(min=0)
    overlap *= torch.minimum(a[3], b[3]).sub_(torch.maximum(a[1], b[1])).clamp_(min=0)
    union = (area(boxes_xyxy)[:, None] + area(others_xyxy)).sub_(overlap).clamp_(min=eps)
    return overlap.div_(union).amax(dim=1)


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
        a, b = _columns(boxes_xyxy, row), _columns(truths_xyxy, truth)
        overlap, union, around = (_sides(a, b, inner) for inner in (True, None, False))
        union = (union - overlap).clamp_(min=eps)
        around = around.clamp_(min=eps)
        ratio = overlap / union
        return ratio, ratio - (around - union) / around

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_iou: Tensor, grad_giou: Tensor) -> tuple[Tensor | None, ...]:
        boxes_xyxy, row, truths_xyxy, truth = ctx.saved_tensors
        a, b = _columns(boxes_xyxy, row), _columns(truths_xyxy, truth)
        overlap, union, around = (_sides(a, b, inner) for inner in (True, None, False))
        union = union - overlap
        real, enclosed = (union >= ctx.eps).to(union.dtype), (around >= ctx.eps).to(union.dtype)
        union, around = union.clamp_(min=ctx.eps), around.clamp_(min=ctx.eps)
        # giou = overlap / union - 1 + union / around, union = area a + area b - overlap
        to_ratio = (grad_iou + grad_giou) / union
        to_around = -grad_giou * union / around.square() * enclosed
        to_union = (grad_giou / around - to_ratio * overlap / union) * real
        to_overlap = to_ratio - to_union
        grad = torch.empty(4, len(boxes_xyxy), dtype=boxes_xyxy.dtype, device=boxes_xyxy.device)
        for axis in (0, 1):
            low_a, high_a, low_b, high_b = a[axis], a[axis + 2], b[axis], b[axis + 2]
            other_low_a, other_high_a, other_low_b, other_high_b = a[1 - axis], a[3 - axis], b[1 - axis], b[3 - axis]
            inner = torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)
            across = torch.minimum(other_high_a, other_high_b) - torch.maximum(other_low_a, other_low_b)
            to_inner = to_overlap * across.clamp_(min=0) * (inner >= 0)
            across = torch.maximum(other_high_a, other_high_b) - torch.minimum(other_low_a, other_low_b)
            to_outer = to_around * across
            to_own = to_union * (other_high_a - other_low_a)
            # Share of a's side in the smaller of two sides; a half where they are equal, as torch's own.
            high = torch.heaviside(high_b - high_a, inner.new_tensor(0.5))
            low = torch.heaviside(low_a - low_b, inner.new_tensor(0.5))
            grad[axis + 2] = _scattered(to_own + to_inner * high + to_outer * (1 - high), row, len(boxes_xyxy))
            grad[axis] = _scattered(-(to_own + to_inner * low + to_outer * (1 - low)), row, len(boxes_xyxy))
        return grad.t(), None, None, None, None


def _columns(boxes_xyxy: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    """The four coordinates of some boxes, each side by side in memory."""
    return tuple(column.contiguous().index_select(0, index) for column in boxes_xyxy.unbind(1))


def _sides(a: tuple[Tensor, ...], b: tuple[Tensor, ...], inner: bool | None) -> Tensor:
    """Area of the overlap (True) or of the smallest box around both (False); sum of the two areas (None)."""
    if inner is None:
        return (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    high, low = (torch.minimum, torch.maximum) if inner else (torch.maximum, torch.minimum)
    width = (high(a[2], b[2]) - low(a[0], b[0])).clamp_(min=0)
    return width * (high(a[3], b[3]) - low(a[1], b[1])).clamp_(min=0)


def _scattered(values: Tensor, index: Tensor, size: int) -> Tensor:
    return values.new_zeros(size).index_add_(0, index, values)

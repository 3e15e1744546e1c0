"""See ``kernels.overlap``: one thread for each pair."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 256


def paired_overlap(
    boxes_xyxy: Tensor, row: Tensor, truths_xyxy: Tensor, truth: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    boxes, truths, count = boxes_xyxy.contiguous(), truths_xyxy.contiguous(), len(row)
    iou, giou = boxes.new_empty(count), boxes.new_empty(count)
    if count:
        _overlap[(triton.cdiv(count, _BLOCK),)](boxes, row, truths, truth, iou, giou, count, eps, BLOCK=_BLOCK)
    return iou, giou


def grown_overlap(boxes_xyxy: Tensor, row: Tensor, truths_xyxy: Tensor, truth: Tensor, extra: float) -> Tensor:
    boxes, truths, count = boxes_xyxy.contiguous(), truths_xyxy.contiguous(), len(row)
    iou = boxes.new_empty(count)
    if count:
        _grown[(triton.cdiv(count, _BLOCK),)](boxes, row, truths, truth, iou, count, extra, BLOCK=_BLOCK)
    return iou


def paired_overlap_slope(
    grad_iou: Tensor,
    grad_giou: Tensor,
    boxes_xyxy: Tensor,
    row: Tensor,
    truths_xyxy: Tensor,
    truth: Tensor,
    eps: float,
) -> Tensor:
    boxes, truths, count = boxes_xyxy.contiguous(), truths_xyxy.contiguous(), len(row)
    grad = torch.zeros_like(boxes)
    if count:
        _slope[(triton.cdiv(count, _BLOCK),)](
            grad_iou.contiguous(), grad_giou.contiguous(), boxes, row, truths, truth, grad, count, eps, BLOCK=_BLOCK
        )
    return grad


@triton.jit
def _box(boxes, place, inside):
    at = boxes + place * 4
    x1 = tl.load(at, mask=inside, other=0.0)
    y1 = tl.load(at + 1, mask=inside, other=0.0)
    x2 = tl.load(at + 2, mask=inside, other=0.0)
    y2 = tl.load(at + 3, mask=inside, other=0.0)
    return x1, y1, x2, y2


@triton.jit
def _overlap(boxes, row, truths, truth, iou, giou, count, eps, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    ax1, ay1, ax2, ay2 = _box(boxes, tl.load(row + place, mask=inside, other=0), inside)
    bx1, by1, bx2, by2 = _box(truths, tl.load(truth + place, mask=inside, other=0), inside)
    width = tl.maximum(tl.minimum(ax2, bx2) - tl.maximum(ax1, bx1), 0.0)
    height = tl.maximum(tl.minimum(ay2, by2) - tl.maximum(ay1, by1), 0.0)
    wide = tl.maximum(tl.maximum(ax2, bx2) - tl.minimum(ax1, bx1), 0.0)
    high = tl.maximum(tl.maximum(ay2, by2) - tl.minimum(ay1, by1), 0.0)
    least = ax1 * 0.0 + eps
    overlap = width * height
    union = tl.maximum((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - overlap, least)
    around = tl.maximum(wide * high, least)
    ratio = overlap / union
    tl.store(iou + place, ratio, mask=inside)
    tl.store(giou + place, ratio - (around - union) / around, mask=inside)


@triton.jit
def _grown(boxes, row, truths, truth, iou, count, extra, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    ax1, ay1, ax2, ay2 = _box(boxes, tl.load(row + place, mask=inside, other=0), inside)
    bx1, by1, bx2, by2 = _box(truths, tl.load(truth + place, mask=inside, other=0), inside)
    more = ax1 * 0.0 + extra
    ax2, ay2, bx2, by2 = ax2 + more, ay2 + more, bx2 + more, by2 + more
    width = tl.maximum(tl.minimum(ax2, bx2) - tl.maximum(ax1, bx1), 0.0)
    height = tl.maximum(tl.minimum(ay2, by2) - tl.maximum(ay1, by1), 0.0)
    overlap = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - overlap
    tl.store(iou + place, overlap / union, mask=inside)


@triton.jit
def _share(beyond):
    """Of a's side in the smaller of two: 1 where b lies beyond it, a half where they are equal."""
    return tl.where(beyond > 0, 1.0, tl.where(beyond == 0, 0.5, 0.0))


@triton.jit
def _slope(grad_iou, grad_giou, boxes, row, truths, truth, grad, count, eps, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    at = tl.load(row + place, mask=inside, other=0)
    ax1, ay1, ax2, ay2 = _box(boxes, at, inside)
    bx1, by1, bx2, by2 = _box(truths, tl.load(truth + place, mask=inside, other=0), inside)
    to_iou = tl.load(grad_iou + place, mask=inside, other=0.0)
    to_giou = tl.load(grad_giou + place, mask=inside, other=0.0)
    width, height = tl.minimum(ax2, bx2) - tl.maximum(ax1, bx1), tl.minimum(ay2, by2) - tl.maximum(ay1, by1)
    wide, high = tl.maximum(ax2, bx2) - tl.minimum(ax1, bx1), tl.maximum(ay2, by2) - tl.minimum(ay1, by1)
    own_width, own_height = ax2 - ax1, ay2 - ay1
    overlap = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
    union = own_width * own_height + (bx2 - bx1) * (by2 - by1) - overlap
    around = tl.maximum(wide, 0.0) * tl.maximum(high, 0.0)
    least = ax1 * 0.0 + eps
    real, enclosed = union >= least, around >= least
    union, around = tl.maximum(union, least), tl.maximum(around, least)
    to_ratio = (to_iou + to_giou) / union
    share = to_giou / around
    to_around = tl.where(enclosed, -(share * union) / around, 0.0)
    to_union = tl.where(real, share - to_ratio * overlap / union, 0.0)
    to_overlap = to_ratio - to_union
    inner_x = tl.where(width >= 0, tl.maximum(height, 0.0) * to_overlap, 0.0)
    inner_y = tl.where(height >= 0, tl.maximum(width, 0.0) * to_overlap, 0.0)
    outer_x, outer_y = high * to_around, wide * to_around
    own_x, own_y = own_height * to_union + outer_x, own_width * to_union + outer_y
    inner_x, inner_y = inner_x - outer_x, inner_y - outer_y
    to = grad + at * 4
    tl.atomic_add(to, -(own_x + _share(ax1 - bx1) * inner_x), mask=inside)
    tl.atomic_add(to + 1, -(own_y + _share(ay1 - by1) * inner_y), mask=inside)
    tl.atomic_add(to + 2, own_x + _share(bx2 - ax2) * inner_x, mask=inside)
    tl.atomic_add(to + 3, own_y + _share(by2 - ay2) * inner_y, mask=inside)

"""See ``kernels.cover``: one thread for each cell, over the truths of its image."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from aweigh.train.kernels.transfer import on_device

_BLOCK = 256


def covered_cells(
    boxes_xyxy: Tensor,
    cell: Tensor,
    truths_xyxy: Tensor,
    counts: Sequence[int],
    points_xy: Tensor,
    stride: Tensor,
    eps: float,
) -> Tensor:
    best = boxes_xyxy.new_empty(len(cell))
    if len(cell):
        starts = on_device(torch.tensor([0, *itertools.accumulate(counts)]), cell.device)
        _covered[(triton.cdiv(len(cell), _BLOCK),)](
            boxes_xyxy.contiguous(),
            cell,
            truths_xyxy.contiguous(),
            starts,
            best,
            len(cell),
            len(points_xy),
            len(truths_xyxy),
            eps,
            BLOCK=_BLOCK,
        )
    return best


@triton.jit
def _covered(boxes, cell, truths, starts, best, count, points, most, eps, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    held = place < count
    at = tl.load(cell + place, mask=held, other=0)
    image = at // points
    first = tl.load(starts + image, mask=held, other=most)
    last = tl.load(starts + image + 1, mask=held, other=0)
    x1 = tl.load(boxes + at * 4, mask=held, other=0.0)
    y1 = tl.load(boxes + at * 4 + 1, mask=held, other=0.0)
    x2 = tl.load(boxes + at * 4 + 2, mask=held, other=0.0)
    y2 = tl.load(boxes + at * 4 + 3, mask=held, other=0.0)
    area = (x2 - x1) * (y2 - y1)
    highest = area * 0.0
    least = highest + eps
    # Cells lie image by image, mostly: a block walks the truths of one.
    for truth in range(tl.min(first, axis=0), tl.max(last, axis=0)):
        bx1, by1 = tl.load(truths + truth * 4), tl.load(truths + truth * 4 + 1)
        bx2, by2 = tl.load(truths + truth * 4 + 2), tl.load(truths + truth * 4 + 3)
        width = tl.maximum(tl.minimum(x2, bx2) - tl.maximum(x1, bx1), 0.0)
        height = tl.maximum(tl.minimum(y2, by2) - tl.maximum(y1, by1), 0.0)
        overlap = width * height
        iou = overlap / tl.maximum(area + (bx2 - bx1) * (by2 - by1) - overlap, least)
        highest = tl.where((truth >= first) & (truth < last), tl.maximum(highest, iou), highest)
    tl.store(best + place, highest, mask=held)

"""See ``kernels.focal``: one program for a few points, over their classes in blocks."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from aweigh.train.kernels.focal import MIN_COMPLEMENT

_ELEMENTS = 2048  # of one block
_MOST_CLASSES = 256  # of one block; a power of two


def negative_rows(cls_logits: Tensor, obj_logits: Tensor | None, slopes: bool) -> tuple[Tensor, Tensor, Tensor]:
    count, classes = cls_logits.shape
    cls_logits = cls_logits.contiguous()
    sums = cls_logits.new_empty(count)
    grad_cls = torch.empty_like(cls_logits if slopes else cls_logits[:0])
    grad_obj = torch.empty_like(sums if slopes and obj_logits is not None else sums[:0])
    if count:
        block = min(_MOST_CLASSES, triton.next_power_of_2(max(1, classes)))
        rows = _ELEMENTS // block
        _rows[(triton.cdiv(count, rows),)](
            cls_logits,
            sums if obj_logits is None else obj_logits.contiguous(),
            sums,
            grad_cls,
            grad_obj,
            count,
            classes,
            MIN_COMPLEMENT,
            JOINT=obj_logits is not None,
            SLOPES=slopes,
            ROWS=rows,
            BLOCK=block,
        )
    return sums, grad_cls, grad_obj


@triton.jit
def _rows(
    cls_logits,
    obj_logits,
    sums,
    grad_cls,
    grad_obj,
    count,
    classes,
    least,
    JOINT: tl.constexpr,
    SLOPES: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    held = row < count
    total = tl.zeros([ROWS], dtype=sums.dtype.element_ty)
    rise = tl.zeros([ROWS], dtype=sums.dtype.element_ty)
    if JOINT:
        objectness = 1.0 / (1.0 + tl.exp(-tl.load(obj_logits + row, mask=held, other=0.0)))
    for start in range(0, classes, BLOCK):
        column = start + tl.arange(0, BLOCK)
        mask = held[:, None] & (column < classes)[None, :]
        at = row[:, None] * classes + column[None, :]
        probability = 1.0 / (1.0 + tl.exp(-tl.load(cls_logits + at, mask=mask, other=0.0)))
        s = probability
        if JOINT:
            s = probability * objectness[:, None]
        complement = tl.maximum(1.0 - s, s * 0.0 + least)
        negative_log = -tl.log(complement)
        square = s * s
        total += tl.sum(tl.where(mask, square * negative_log, 0.0), axis=1)
        if SLOPES:
            slope = (2.0 * negative_log + s / complement) * square
            tl.store(grad_cls + at, slope * (1.0 - probability), mask=mask)
            rise += tl.sum(tl.where(mask, slope, 0.0), axis=1)
    tl.store(sums + row, total, mask=held)
    if SLOPES and JOINT:
        tl.store(grad_obj + row, rise * (1.0 - objectness), mask=held)

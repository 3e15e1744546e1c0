"""Loss terms that several methods share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from aweigh.train.kernels.focal import MIN_COMPLEMENT, negative_rows

# torch's own binary cross entropy clamps its logarithms at -100; the authors' code inherits that.
MAX_NEGATIVE_LOG = 100.0


def joint_negative_log(cls_logits: Tensor, obj_logits: Tensor) -> Tensor:
    """-ln(sigmoid(cls) * sigmoid(obj)), without the underflow of the product."""
    return -(F.logsigmoid(cls_logits) + F.logsigmoid(obj_logits)).clamp(min=-MAX_NEGATIVE_LOG)


def negative_focal(probability: Tensor) -> Tensor:
    """s^2 (-ln(1 - s)) element by element: the focal loss of a negative with gamma 2 and no alpha."""
    complement = (1 - probability).clamp(min=MIN_COMPLEMENT)
    return probability.square() * -complement.log()


def negative_focal_rows(cls_logits: Tensor, obj_logits: Tensor | None, at: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`negative_focal` of s = sigmoid(cls) * sigmoid(obj), summed over the classes, and single class logits.

    The dense term of every method here. One fused pass computes the sums and both gradients, a slice at a time, so
    that no [M, C] temporary but the gradient itself is kept. The logits that a method treats apart are gathered by
    the same function: apart, their gradient would be another dense tensor, and its addition one more pass.

    Args:
        cls_logits: [M, C].
        obj_logits: [M], or None for s = sigmoid(cls).
        at: [N] int64, row * C + class; may repeat.

    Returns:
        [M] sums and [N] logits.
    """
    if cls_logits.requires_grad or (obj_logits is not None and obj_logits.requires_grad):
        result: tuple[Tensor, Tensor] = _NegativeFocalRows.apply(cls_logits, obj_logits, at)  # type: ignore[no-untyped-call]
        return result
    return negative_rows(cls_logits, obj_logits, False)[0], cls_logits.flatten().index_select(0, at)


def negative_focal_at(cls_logits: Tensor, obj_logits: Tensor | None = None) -> Tensor:
    """[N] :func:`negative_focal` of s = sigmoid(cls) * sigmoid(obj), of single logits [N], in one fused pass."""
    values: Tensor = _NegativeFocal.apply(cls_logits, obj_logits)  # type: ignore[no-untyped-call]
    return values


def focal_sum(cls_logits: Tensor, positive: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """Sigmoid focal loss (arXiv 1708.02002, gamma 2) summed over all points and classes.

    Args:
        cls_logits: [M, C].
        positive: [n] rows that are positive, each at most once; labels: [n] their classes.
    """
    rows, logits = negative_focal_rows(cls_logits, None, positive * cls_logits.shape[1] + labels)
    return (1 - alpha) * rows.sum() + focal_change(logits, alpha).sum()


def focal_change(logits: Tensor, alpha: float) -> Tensor:
    """What the focal loss gains where a class [N] is a positive and no negative."""
    probability = logits.sigmoid()
    raised = alpha * (1 - probability).square() * -F.logsigmoid(logits)
    return raised - (1 - alpha) * negative_focal(probability)


class _NegativeFocal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cls_logits: Tensor, obj_logits: Tensor | None) -> Tensor:
        values, slope_cls, slope_obj = negative_rows(cls_logits[:, None], obj_logits, True)
        ctx.save_for_backward(slope_cls[:, 0], None if obj_logits is None else slope_obj)
        return values  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        slope_cls, slope_obj = ctx.saved_tensors
        return slope_cls * grad, None if slope_obj is None else slope_obj * grad


class _NegativeFocalRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cls_logits: Tensor, obj_logits: Tensor | None, at: Tensor) -> tuple[Tensor, Tensor]:
        rows, slope_cls, slope_obj = negative_rows(cls_logits, obj_logits, True)
        wanted = obj_logits is not None and obj_logits.requires_grad
        ctx.save_for_backward(slope_cls, slope_obj if wanted else None, at)
        return rows, cls_logits.flatten().index_select(0, at)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rows: Tensor, grad_at: Tensor) -> tuple[Tensor, Tensor | None, None]:
        slope_cls, slope_obj, at = ctx.saved_tensors
        grad_cls = slope_cls * grad_rows[:, None]
        grad_cls.view(-1).index_add_(0, at, grad_at)
        return grad_cls, None if slope_obj is None else slope_obj * grad_rows, None

"""The dense term of every method: a focal loss of negatives summed over the classes of each point, with its slope."""

from __future__ import annotations

import torch
from torch import Tensor

from aweigh.train.kernels.operators import register

MIN_COMPLEMENT = 1e-12
# Elements of one pass: small enough that its few temporaries stay in the second-level cache of a CPU core.
_PASS_ELEMENTS = 1 << 16


def at_once(elements: int, device: torch.device) -> bool:
    """Whether so many elements are one pass: always on a GPU, on a CPU while the temporaries stay in its cache."""
    return device.type != "cpu" or elements <= _PASS_ELEMENTS


def _rows(cls_logits: Tensor, obj_logits: Tensor | None, slopes: bool) -> tuple[Tensor, Tensor, Tensor]:
    rows = max(1, _PASS_ELEMENTS // max(1, cls_logits.shape[1]))
    if cls_logits.device.type != "cpu":  # a GPU wants one large launch
        rows = max(1, cls_logits.shape[0])
    sums = torch.empty_like(cls_logits[:, 0])
    grad_cls = torch.empty_like(cls_logits if slopes else cls_logits[:0], memory_format=torch.contiguous_format)
    grad_obj = torch.empty_like(sums if slopes and obj_logits is not None else sums[:0])
    for start in range(0, cls_logits.shape[0], rows):
        part = slice(start, start + rows)
        cls_probability = cls_logits[part].sigmoid()
        obj_probability = None if obj_logits is None else obj_logits[part, None].sigmoid()
        s = cls_probability if obj_probability is None else cls_probability * obj_probability
        complement = (1 - s).clamp_(min=MIN_COMPLEMENT)
        negative_log = complement.log().neg_()
        square = s.square()
        torch.sum(square * negative_log, dim=1, out=sums[part])
        if not slopes:
            continue
        # d(s^2 (-ln(1-s)))/ds * s, to be multiplied by 1 - sigmoid of either logit
        slope = negative_log.mul_(2).add_(s / complement).mul_(square)
        torch.mul(slope, 1 - cls_probability, out=grad_cls[part])
        if obj_probability is not None:
            torch.mul(slope.sum(dim=1), 1 - obj_probability[:, 0], out=grad_obj[part])
    return sums, grad_cls, grad_obj


# Of class logits [M, C] and, where they take part, objectness logits [M]: the sums [M] of s^2 (-ln(1 - s)) over the
# classes, and with ``slopes`` what they rise by with each logit, [M, C] and [M]; what is not wanted is empty.
negative_rows = register(
    "negative_rows(Tensor cls_logits, Tensor? obj_logits, bool slopes) -> (Tensor, Tensor, Tensor)",
    _rows,
    "focal:negative_rows",
    launches=1,
)

"""Greedy non-maximum suppression (NMS), class by class, in two forms that give the same survivors.

``nms_matrix`` is plain operators of static shape: the fixed point of keep <- valid and not suppressed by a kept one.
``nms_keep`` is exported as the operator NonMaxSuppression.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aweigh.train.dense.boxes import iou

# Rounds of the unrolled matrix form; a chain of suppressions longer than this is reported by ``converged``.
MATRIX_ROUNDS = 32
# The early exit: the best candidates alone, in fewer rounds. Where that settles the output, the rest is not computed.
# benchmarks/postprocess_cost.py has what it saves.
FIRST_CANDIDATES = 256
FIRST_ROUNDS = 8


def suppression(boxes_xyxy: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """[..., K, K] bool: row suppresses column, for candidates sorted by score (upper triangle, same class)."""
    overlap = iou(boxes_xyxy[..., :, None, :], boxes_xyxy[..., None, :, :])
    same = labels[..., :, None] == labels[..., None, :]
    return ((overlap > iou_threshold) & same).triu(1)


def nms_matrix(
    boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, rows: int | None = None
) -> tuple[Tensor, Tensor]:
    """NMS as a fixed point, its rounds unrolled.

    Args:
        boxes_xyxy: [B, K, 4], sorted by falling score.
        scores: [B, K]; 0 marks no candidate.
        labels: [B, K]; only boxes of one label suppress each other.
        iou_threshold: a box is suppressed by a better one above this IoU.
        rows: how many survivors the caller takes. Once so many are known, or no candidate is left, the others are not
            looked for: those ``rows`` are the same, the rest are missing. None looks for all.

    Returns:
        keep [B, K] bool, and converged [B] bool: whether the fixed point was reached, which is the greedy result.
    """
    candidates = scores.shape[1]
    several = isinstance(candidates, int) and candidates > FIRST_CANDIDATES  # with free sizes it is no number
    if rows is None or rows > FIRST_CANDIDATES or not several:
        return _settle(boxes_xyxy, scores, labels, iou_threshold, MATRIX_ROUNDS)
    best_boxes, best_scores, best_labels = (values[:, :FIRST_CANDIDATES] for values in (boxes_xyxy, scores, labels))
    keep, settled = _settle(best_boxes, best_scores, best_labels, iou_threshold, FIRST_ROUNDS)
    no_more = scores[:, FIRST_CANDIDATES:].amax(dim=1) <= 0
    enough = settled & (no_more | (keep.sum(dim=1) >= rows))

    def stop(boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        rest = torch.zeros_like(scores[:, FIRST_CANDIDATES:], dtype=torch.bool)
        return torch.cat((keep, rest), dim=1), scores[:, 0] > -1

    def go_on(boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        return _settle(boxes_xyxy, scores, labels, iou_threshold, MATRIX_ROUNDS)

    # A reduction over booleans is not among TensorRT's operators.
    return _branch(enough.to(scores.dtype).amin(dim=0) > 0.5, stop, go_on, (boxes_xyxy, scores, labels, keep))


def _settle(
    boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, rounds: int
) -> tuple[Tensor, Tensor]:
    """keep [B, K] and whether it is the fixed point [B].

    Zeros and ones as floats: valid - keep @ M is 1 for a candidate that no kept one suppresses, else 0 or below.
    """
    valid = (scores > 0).to(boxes_xyxy.dtype)[:, None]  # [B, 1, K]
    suppressed_by = -suppression(boxes_xyxy, labels, iou_threshold).to(boxes_xyxy.dtype)
    keep, previous = last_rounds(valid, suppressed_by, rounds)
    return keep[:, 0] > 0.5, (keep - previous).abs().sum(dim=(1, 2)) < 0.5


@torch.library.custom_op("aweigh::last_rounds", mutates_args=())
def last_rounds(valid: Tensor, suppressed_by: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """The last two [B, 1, K] of so many rounds of keep <- relu(valid + keep @ suppressed_by), from ``valid`` on.

    One operator to the exporter, which writes the rounds into the graph; traced one by one they would be half of the
    time of an export.
    """
    keep, previous = rounds_one_by_one(valid.clone(), suppressed_by, rounds)
    return keep, previous.clone()  # an operator returns no argument and no tensor twice


def rounds_one_by_one(valid: Tensor, suppressed_by: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """The same in torch's operators."""
    keep = previous = valid
    for _ in range(rounds):
        previous, keep = keep, (valid + torch.matmul(keep, suppressed_by)).relu()
    return keep, previous


@last_rounds.register_fake
def _(valid: Tensor, suppressed_by: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(valid), torch.empty_like(valid)


def _branch(
    condition: Tensor,
    then: Callable[..., tuple[Tensor, Tensor]],
    otherwise: Callable[..., tuple[Tensor, Tensor]],
    values: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor]:
    """One of two functions. While the exporter traces, both become branches of the operator If."""
    if torch.compiler.is_exporting():
        result: tuple[Tensor, Tensor] = torch.cond(condition, then, otherwise, values)
        return result
    return then(*values) if bool(condition) else otherwise(*values)


@torch.library.custom_op("aweigh::nms_keep", mutates_args=())
def nms_keep(
    boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, num_classes: int, max_det: int
) -> Tensor:
    """Greedy class-aware NMS: keep [B, K] bool. Exported as NonMaxSuppression; scores of 0 are never kept.

    The exported operator stops each of the ``num_classes`` classes at its best ``max_det`` boxes, which are all that
    can become rows of the output; here they are all kept.
    """
    keep = torch.zeros_like(scores, dtype=torch.bool)
    for image in range(len(scores)):
        order = scores[image].argsort(descending=True, stable=True)
        order = order[scores[image][order] > 0]
        matrix = suppression(boxes_xyxy[image][order], labels[image][order], iou_threshold).float()
        chosen = torch.ones(len(order), device=scores.device)
        while True:  # ends: each round settles at least one more candidate
            step = (chosen @ matrix < 0.5).float()
            if torch.equal(step, chosen):
                break
            chosen = step
        keep[image, order[chosen > 0.5]] = True
    return keep


@nms_keep.register_fake
def _(
    boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, num_classes: int, max_det: int
) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)

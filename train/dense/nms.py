"""Greedy non-maximum suppression (NMS), class by class, in two forms that give the same survivors.

``nms_matrix`` is plain operators of static shape: the fixed point of keep <- valid and not suppressed by a kept one.
``nms_keep`` is exported as the operator NonMaxSuppression.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aweigh.train.dense.boxes import Extents, pairwise_iou, pairwise_iou_or_less

# Rounds of the unrolled matrix form; a chain of suppressions longer than this is reported by ``converged``.
MATRIX_ROUNDS = 32
# The early exit: the best candidates alone, in fewer rounds. Where that settles the output, the rest is not computed.
# benchmarks/postprocess_cost.py has what it saves.
FIRST_CANDIDATES = 256
FIRST_ROUNDS = 8


def suppression(overlap: Tensor, place: Tensor, valid: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """[..., K, K] bool: row suppresses column. The row is valid, of the same class, and has the better place.

    A row that is not valid goes last. That the ranks are no constants also keeps a K x K mask out of the exported file.
    ``overlap`` [..., K, K] is the IoU.
    """
    rank = torch.where(valid, place, float("inf"))
    better = rank[..., None] < place[..., None, :]
    same = labels[..., None] == labels[..., None, :]
    return (overlap > iou_threshold) & same & better


def nms_matrix(
    boxes: Extents, scores: Tensor, labels: Tensor, iou_threshold: float, rows: int | None = None
) -> tuple[Tensor, Tensor]:
    """NMS as a fixed point, its rounds unrolled.

    Args:
        boxes: K of each image, sorted by falling score.
        scores: [B, K]; 0 marks no candidate.
        labels: [B, K]; only boxes of one label suppress each other.
        iou_threshold: a box is suppressed by a better one above this IoU.
        rows: how many survivors the caller takes. Once so many are known, or no candidate is left, the others are not
            looked for: those ``rows`` are the same, the rest are missing. None looks for all, in the fewest operators.

    Returns:
        keep [B, K] bool, and converged [B] bool: whether the fixed point was reached, which is the greedy result.
    """
    candidates = scores.shape[1]
    fixed = isinstance(candidates, int)  # with free sizes it is no number
    if rows is None or rows > FIRST_CANDIDATES or not fixed or candidates <= FIRST_CANDIDATES:
        # In fewer passes where nothing counts operators: a slice of free sizes is 27 layers of an engine.
        overlap = pairwise_iou if rows is None or not fixed else pairwise_iou_or_less
        keep, unsettled = _settle(overlap(boxes, boxes), scores, labels, iou_threshold, MATRIX_ROUNDS)
        return keep, unsettled < 0.5
    best_scores, best_labels = scores[:, :FIRST_CANDIDATES], labels[:, :FIRST_CANDIDATES]
    best = boxes.first(FIRST_CANDIDATES)
    keep, unsettled = _settle(pairwise_iou(best, best), best_scores, best_labels, iou_threshold, FIRST_ROUNDS)
    rest = scores[:, FIRST_CANDIDATES:]
    # Above 0 where rows are missing and candidates left, or the first are not settled. In floats, which takes fewer
    # layers than booleans; a reduction over those is not among TensorRT's operators.
    missing = rows - keep.to(scores.dtype).sum(dim=1)
    more = torch.maximum(missing * rest.amax(dim=1), unsettled).amax(dim=0) > 0
    # Nor may what a branch reads share memory; the graph has no copies.
    corners = (boxes.xyxy.clone(), boxes.low.clone(), boxes.high.clone(), boxes.area)
    values = (*corners, scores, labels, keep, unsettled, rest.clone())

    def stop(*values: Tensor) -> tuple[Tensor, Tensor]:
        *_, keep, unsettled, rest = values
        return torch.cat((keep, rest < 0), dim=1), unsettled < 0.5

    def go_on(*values: Tensor) -> tuple[Tensor, Tensor]:
        xyxy, low, high, area, scores, labels, *_ = values
        every = Extents(xyxy, low, high, area)
        keep, unsettled = _settle(pairwise_iou_or_less(every, every), scores, labels, iou_threshold, MATRIX_ROUNDS)
        return keep, unsettled < 0.5

    return _branch(more, go_on, stop, values)


def _settle(
    overlap: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, rounds: int
) -> tuple[Tensor, Tensor]:
    """keep [B, K], and [B] floats: 0 where it is the fixed point, 1 where it is open. ``rounds`` is even.

    Zeros and ones as floats. The best candidate stays, whatever it is, for nothing suppresses it: the first row of
    ``step`` adds 1 to every column, so that keep @ step is 1 for one that no kept one suppresses, else 0 or below.
    """
    valid = scores > 0
    place = torch.arange(scores.shape[1], device=scores.device, dtype=scores.dtype)[None]
    first = (place == 0).to(scores.dtype)[..., None]
    step = first - suppression(overlap, place, valid, labels, iou_threshold).to(first.dtype)
    every = (place >= 0).to(scores.dtype)[:, None]  # where K is free, a tenth of the layers of ones of its shape
    keep, previous = last_rounds(every, step, rounds)
    # More kept, fewer kept in the next round: from all of them on, an even round never keeps less than the one before.
    differs = (keep - previous)[:, 0] * valid.to(keep.dtype)
    return (keep[:, 0] > 0.5) & valid, differs.amax(dim=1)


@torch.library.custom_op("aweigh::last_rounds", mutates_args=())
def last_rounds(every: Tensor, step: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """The last two [B, 1, K] of so many rounds, 2 or more, of keep <- relu(keep @ step), from ``every`` on.

    ``every`` is ones [1, 1, K]. A product with them is what ONNX Runtime computes fast; a sum over rows it does not.

    Two layers of an engine for each round. One operator to the exporter, which writes the rounds into the graph;
    traced one by one they would be half of the time of an export.
    """
    keep, previous = rounds_one_by_one(every, step, rounds)
    return keep, previous


def rounds_one_by_one(every: Tensor, step: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """The same in torch's operators."""
    keep = previous = every
    for _ in range(rounds):
        previous, keep = keep, torch.matmul(keep, step).relu()
    return keep, previous


@last_rounds.register_fake
def _(every: Tensor, step: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(step[:, :1]), torch.empty_like(step[:, :1])


def _branch(
    condition: Tensor,
    then: Callable[..., tuple[Tensor, Tensor]],
    otherwise: Callable[..., tuple[Tensor, Tensor]],
    values: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor]:
    """One of two functions. While the exporter traces, both become branches of the operator If."""
    if torch.compiler.is_exporting():
        # The exporter takes every length in a branch for unknown, and equal ones for one and the same: the corners of a
        # box and a fixed batch of 2. Those that are free in the graph stay free.
        with torch._dynamo.config.patch(assume_static_by_default=True):
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
        chosen = torch.ones(len(order), device=scores.device)
        boxes, place = Extents.of(boxes_xyxy[image][order]), torch.arange(len(order), device=scores.device)
        overlap = pairwise_iou_or_less(boxes, boxes)
        matrix = suppression(overlap, place, chosen > 0, labels[image][order], iou_threshold).float()
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

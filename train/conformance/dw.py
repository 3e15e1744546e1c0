"""DW against its authors' numbers: weights, losses, gradients, refinement."""

from __future__ import annotations

import torch
from torch import Tensor

from aweigh.train.conformance.case import Case
from aweigh.train.conformance.checks import CaseChecks, QuantityCheck
from aweigh.train.dense.points import make_points
from aweigh.train.methods.candidates import last_truth_wins
from aweigh.train.methods.dw import DW, DWConfig, DWWeights, refine


def run(case: Case) -> list[QuantityCheck]:
    checks = CaseChecks(case)
    if "offset_l0" in case:
        _refinement(case, checks)
    else:
        _losses(case, checks)
    return checks.results


def _losses(case: Case, checks: CaseChecks) -> None:
    method = DW(case.num_classes, DWConfig(refine=False))
    points, predictions, targets = case.points(method.point_offset), case.predictions(), case.targets()
    checks.add("points", points.xy)
    checks.add_losses(method.loss(predictions, points, targets, progress=0.0), predictions)

    weights = method.weigh(predictions, points, targets)
    writes = last_truth_wins(weights.pairs, weights.labels, len(points.xy), case.num_classes)
    checks.add("pos_avg_factor", float(max(len(targets), 1)))
    checks.add("neg_avg_factor", torch.where(writes, 1 - weights.negative_share, 0).sum().clamp(min=1))
    checks.add("prior_mean", torch.zeros(case.num_classes, 2))
    checks.add("prior_sigma", torch.full((case.num_classes, 2), method.config.sigma, dtype=case.dtype))
    for image in range(case.images):
        _image(case, checks, weights, image, writes, method.scores(predictions)[image])


def _image(case: Case, checks: CaseChecks, weights: DWWeights, image: int, writes: Tensor, scores: Tensor) -> None:
    mine = weights.pairs.image == image
    first = sum(len(case.array(f"gt_labels_{b}")) for b in range(image))
    truths = len(case.array(f"gt_labels_{image}"))

    def table(values: Tensor, outside: float = 0.0) -> Tensor:  # [P, G] of this image
        dense = values.new_full((len(scores), truths), outside)
        dense[weights.pairs.point[mine], weights.pairs.truth[mine] - first] = values[mine]
        return dense

    checks.add(f"inside_{image}", table(torch.ones_like(weights.prior)) > 0)
    checks.add(f"center_prior_{image}", table(weights.prior))
    checks.add(f"iou_{image}", table(weights.iou))
    checks.add(f"giou_loss_{image}", table(1 - weights.giou.detach()))
    checks.add(f"w_pos_{image}", table(weights.positive_weight))
    checks.add(f"neg_metric_{image}", table(weights.negative_share, outside=-1.0))
    share = torch.ones_like(scores)
    written = mine & writes
    share[weights.pairs.point[written], weights.labels[written]] = weights.negative_share[written]
    checks.add(f"p_neg_{image}", share)
    checks.add(f"w_neg_{image}", share * scores.detach().square())


def _refinement(case: Case, checks: CaseChecks) -> None:
    for level, stride in enumerate(case.array("strides")):
        raw = torch.from_numpy(case.array(f"regraw_l{level}")).to(case.dtype).requires_grad_()
        offset = torch.from_numpy(case.array(f"offset_l{level}")).to(case.dtype).requires_grad_()
        shape_hw = (raw.shape[2], raw.shape[3])
        points = make_points([shape_hw], [int(stride)], DW.point_offset, dtype=case.dtype)
        refined = torch.unflatten(refine(raw.relu().flatten(2), offset.flatten(2), points), 2, shape_hw)
        checks.add(f"reg_l{level}", (raw.relu() * int(stride)).float())
        checks.add(f"refined_l{level}", refined)
        refined.backward(torch.from_numpy(case.array(f"gout_l{level}")).to(case.dtype))  # type: ignore[no-untyped-call]
        checks.add(f"gregraw_l{level}", raw.grad if raw.grad is not None else torch.zeros_like(raw))
        checks.add(f"goffset_l{level}", offset.grad if offset.grad is not None else torch.zeros_like(offset))

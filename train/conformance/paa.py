"""PAA against its authors' numbers: both stages of the assignment, mixtures, losses, gradients, NMS and voting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from aweigh.runtime.spec import PostSpec
from aweigh.train.conformance.case import Case, Post, in_torch
from aweigh.train.conformance.checks import CaseChecks, QuantityCheck
from aweigh.train.dense.points import Points
from aweigh.train.dense.postprocess import Dense, PostProcess
from aweigh.train.methods.anchors import grown_iou
from aweigh.train.methods.candidates import Pairs
from aweigh.train.methods.paa import PAA, PAAAssignment
from aweigh.train.methods.values import Predictions, Targets


def run(case: Case, postprocess: Post = in_torch) -> list[QuantityCheck]:
    """``postprocess``: how an inference case goes through its post-processing, the exported graph say."""
    checks = CaseChecks(case)
    method = PAA(case.num_classes)
    points, predictions = case.points(method.point_offset), case.predictions()
    half = (method.config.anchor_scale * points.stride[:, None] - 1) / 2
    checks.add("anchors", torch.cat((points.xy - half, points.xy + half), dim=1))
    if "det_boxes_voted_0" in case:
        _inference(case, checks, method, predictions, points, postprocess)
        return checks.results
    targets = case.targets()
    checks.add_losses(method.loss(predictions, points, targets, progress=0.0), predictions)
    chosen = method.assign(predictions, points, targets)
    _stages(case, checks, chosen, targets, len(points.xy))
    _positives(checks, method, chosen.positives, predictions, points, targets)
    _mixtures(case, checks, chosen, targets)
    return checks.results


def _stages(case: Case, checks: CaseChecks, chosen: PAAAssignment, targets: Targets, num_points: int) -> None:
    first = torch.tensor([sum(len(case.array(f"gt_labels_{i}")) for i in range(b)) for b in range(case.images)])

    def table(pairs: Pairs, values: Tensor, empty: int) -> Tensor:  # [B, P]
        dense = torch.full((case.images, num_points), empty)
        dense[pairs.image, pairs.point] = values
        return dense

    for pairs, labels, truth in (
        (chosen.matched, "iou_stage_labels", "iou_stage_matched_gt"),
        (chosen.positives, "labels", "matched_gt"),
    ):
        checks.add(labels, table(pairs, targets.labels[pairs.truth] + 1, 0))
        own = pairs.truth - first[pairs.image]
        if truth == "matched_gt":  # recorded for matched anchors, positive or not
            own = chosen.matched.truth - first[chosen.matched.image]
            pairs = chosen.matched
            at = table(chosen.positives, torch.ones_like(chosen.positives.truth), 0).bool().numpy()
            checks.add_array(truth, table(pairs, own, -1).numpy()[at], case.array(truth)[at])
        else:
            checks.add(truth, table(pairs, own, -1))
    reference = case.array("anchor_score_loss")
    at_matched = (chosen.matched.image.numpy(), chosen.matched.point.numpy())
    checks.add_array("anchor_score_loss", chosen.score_loss, reference[at_matched])


def _positives(
    checks: CaseChecks, method: PAA, pairs: Pairs, predictions: Predictions, points: Points, targets: Targets
) -> None:
    rows = pairs.image * len(points.xy) + pairs.point
    order = torch.argsort(rows)
    pairs = pairs.take(order)
    truth_boxes = targets.boxes_xyxy[pairs.truth]
    boxes_xyxy = method.all_boxes(predictions, points).detach()[rows[order]]
    overlap = grown_iou(boxes_xyxy.unbind(1), truth_boxes.unbind(1))
    checks.add("num_pos", float(max(len(pairs), 1)))
    checks.add("pos_inds", rows[order])
    checks.add("iou_target", overlap)
    checks.add("sum_iou_target", overlap.sum())
    checks.add("reg_targets_pos", method.encode(truth_boxes, points.xy[pairs.point], points.stride[pairs.point]))


def _mixtures(case: Case, checks: CaseChecks, chosen: PAAAssignment, targets: Targets) -> None:
    held = chosen.candidates >= 0
    point = torch.where(held, chosen.matched.point[chosen.candidates.clamp(min=0)], -1)
    checks.add("gmm_img", targets.image)
    checks.add("gmm_n", held.sum(dim=1))
    checks.add("gmm_idx", point)
    checks.add("gmm_npos", torch.bincount(chosen.positives.truth, minlength=len(targets)))
    loss = chosen.score_loss[chosen.candidates.clamp(min=0)]
    _add_where(checks, "gmm_loss", loss, held)
    fitted, mixtures = chosen.fitted, chosen.mixtures
    checks.add("gmm_it", torch.where(fitted, mixtures.rounds, -1))
    for name, values in (("gmm_w", mixtures.weights), ("gmm_m", mixtures.means), ("gmm_cov", mixtures.variances)):
        _add_where(checks, name, values, fitted)
    for name, values in (("gmm_comp", mixtures.component), ("gmm_score", mixtures.log_likelihood)):
        _add_where(checks, name, values, held & fitted[:, None])


def _add_where(checks: CaseChecks, name: str, values: Tensor, where: Tensor) -> None:
    checks.add_array(name, values[where], checks.case.array(name)[where.numpy()])


def _inference(
    case: Case, checks: CaseChecks, method: PAA, predictions: Predictions, points: Points, postprocess: Post
) -> None:
    height, width = (int(side) for side in case.array("image_hw"))
    spec = replace(
        method.post(),
        score_threshold=case.number("pre_nms_thresh"),
        pre_nms_top_k=int(case.number("pre_nms_top_n")),
        top_k_unit="level-pairs",
        iou_threshold=case.number("nms_thresh"),
        max_det=int(case.number("max_dets")),
    )
    dense = Dense(
        method.boxes(predictions.reg, points.xy, points.stride).detach(),
        method.scores(predictions).detach(),
        predictions.cls_logits.detach().sigmoid(),
        points.level_sizes,
        (height, width),
    )
    for post, name in ((replace(spec, kind="nms"), "det_boxes_nms"), (spec, "det_boxes_voted")):
        outputs = postprocess(post, dense)
        for image in range(case.images):
            _detections(case, checks, outputs, name, image)
    _candidates(case, checks, spec, dense)


def _detections(case: Case, checks: CaseChecks, outputs: tuple[Tensor, ...], name: str, image: int) -> None:
    """As sets: the authors list detections by candidate, we by score."""
    count = int(outputs[0][image])
    boxes_xyxy, scores, labels = (part[image, :count].numpy() for part in outputs[1:4])
    theirs = _by_score(case.array(f"det_scores_{image}"), case.array(f"det_labels_{image}"))
    ours = _by_score(scores, labels)
    checks.add_array(f"{name}_{image}", boxes_xyxy[ours], case.array(f"{name}_{image}")[theirs])
    if name == "det_boxes_voted":
        checks.add_array(f"det_scores_{image}", scores[ours], case.array(f"det_scores_{image}")[theirs])
        checks.add_array(f"det_labels_{image}", labels[ours], case.array(f"det_labels_{image}")[theirs])


def _candidates(case: Case, checks: CaseChecks, spec: PostSpec, dense: Dense) -> None:
    boxes_xyxy, scores, labels = PostProcess(spec).candidates(dense)
    for image in range(case.images):
        held = scores[image] > 0
        ours = _by_score(scores[image][held].numpy(), labels[image][held].numpy())
        theirs = _by_score(case.array(f"cand_scores_{image}"), case.array(f"cand_labels_{image}"))
        for name, values in (("boxes", boxes_xyxy), ("scores", scores), ("labels", labels)):
            reference = case.array(f"cand_{name}_{image}")
            checks.add_array(f"cand_{name}_{image}", values[image][held].numpy()[ours], reference[theirs])


def _by_score(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.lexsort((labels, -scores))

"""O2F against its authors' numbers: assignment, soft labels, losses, gradients, NMS-free inference."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from aweigh.runtime.spec import PostSpec
from aweigh.train.conformance.case import Case, Post, in_torch
from aweigh.train.conformance.checks import CaseChecks, QuantityCheck
from aweigh.train.dense.points import Points
from aweigh.train.dense.postprocess import Dense
from aweigh.train.methods.o2f import O2F, O2FAssignment
from aweigh.train.methods.values import Predictions, Targets

_LAST_EPOCH = 11  # the recorded runs have 12 epochs, numbered from 0


def run(case: Case, postprocess: Post = in_torch) -> list[QuantityCheck]:
    checks = CaseChecks(case)
    method = O2F(case.num_classes)
    points, targets = case.points(method.point_offset), case.targets()
    checks.add("points", points.xy)
    if "det_0" in case:
        _inference(case, checks, method, points, postprocess)
        return checks.results
    epochs = [int(m[1]) for name in case.arrays if (m := re.fullmatch(r"loss_cls__e(\d+)", name))]
    for epoch in sorted(epochs):
        _epoch(case, checks, method, points, targets, epoch)
    predictions = case.predictions()
    chosen = method.assign(predictions, points, targets, progress=0.0)
    checks.add("num_pos", float(max(len(chosen.kept), 1)))
    checks.add("centerness_denorm", chosen.centerness.sum().clamp(min=1e-6))
    for image in range(case.images):
        _image(case, checks, chosen, targets, image, len(points.xy))
    return checks.results


def _epoch(case: Case, checks: CaseChecks, method: O2F, points: Points, targets: Targets, epoch: int) -> None:
    progress, suffix = epoch / _LAST_EPOCH, f"__e{epoch}"
    predictions = case.predictions()
    losses = method.loss(predictions, points, targets, progress)
    chosen = method.assign(predictions, points, targets, progress)
    # With no positive at all the authors' box loss is the sum of all predictions; here it is 0.
    exploded = len(chosen.kept) == 0
    checks.add(f"T{suffix}", torch.tensor(method.temperature(progress), dtype=torch.float64))
    checks.add(f"loss_cls{suffix}", losses["loss_cls"])
    checks.add(f"loss_bbox{suffix}", losses["loss_bbox"], deviates=exploded)
    total: Tensor = sum(losses.values(), torch.zeros(()))
    total.backward()  # type: ignore[no-untyped-call]
    checks.add_gradients(predictions, suffix, deviating=("reg",) if exploded else ())
    for image in range(case.images):
        mine = chosen.kept.image == image
        for name, values in (("soft_labels", chosen.soft_label), ("soft_weights", chosen.soft_weight)):
            reference = case.arrays.get(f"{name}_{image}{suffix}")
            if reference is None:
                continue
            dense = torch.zeros(len(points.xy))
            dense[chosen.kept.point[mine]] = values[mine]
            checks.add(f"{name}_{image}{suffix}", dense)


def _image(
    case: Case, checks: CaseChecks, chosen: O2FAssignment, targets: Targets, image: int, num_points: int
) -> None:
    first = sum(len(case.array(f"gt_labels_{b}")) for b in range(image))
    truths = len(case.array(f"gt_labels_{image}"))
    kept = chosen.kept.image == image
    point, truth = chosen.kept.point[kept], chosen.kept.truth[kept]
    labels = torch.full((num_points,), case.num_classes)
    labels[point] = targets.labels[truth]
    matched = torch.full((num_points,), -1)
    matched[point] = truth - first
    ltrb_px = torch.zeros(num_points, 4)
    ltrb_px[point] = chosen.ltrb_px[kept]
    checks.add(f"point_labels_{image}", labels)
    checks.add(f"matched_gt_{image}", matched)
    checks.add(f"bbox_targets_{image}", ltrb_px)
    mine = chosen.candidates.image == image
    at = (chosen.candidates.point[mine], chosen.candidates.truth[mine] - first)
    for name, values in (
        ("inside", torch.ones_like(chosen.iou)),
        ("quality", chosen.quality),
        ("iou", chosen.iou),
    ):
        dense = torch.zeros(num_points, truths)
        dense[at] = values[mine]
        checks.add(f"{name}_{image}", dense > 0 if name == "inside" else dense)


def _inference(case: Case, checks: CaseChecks, method: O2F, points: Points, postprocess: Post) -> None:
    predictions: Predictions = case.predictions()
    spec = PostSpec(
        kind="none",
        score_threshold=case.number("score_thr"),
        pre_nms_top_k=int(case.number("nms_pre")),
        top_k_unit="level-pairs",
        max_det=int(case.number("max_per_img")),
    )
    height, width = (int(side) for side in case.array("image_hw"))
    dense = Dense(
        method.boxes(predictions.reg, points.xy, points.stride),
        method.scores(predictions),
        predictions.cls_logits.sigmoid(),
        points.level_sizes,
        (height, width),
    )
    count, boxes_xyxy, scores, labels = postprocess(spec, dense)
    for image in range(case.images):
        rows = int(count[image])
        checks.add(f"det_{image}", torch.cat((boxes_xyxy[image, :rows], scores[image, :rows, None]), dim=1))
        checks.add(f"det_labels_{image}", labels[image, :rows])

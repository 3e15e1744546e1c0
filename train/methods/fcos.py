"""FCOS (arXiv 2006.09214, the journal version): the baseline without learned assignment.

A point is positive for the smallest box whose centre region holds it, on the level whose range of sizes fits.

Deviations:
    * boxes are relu(x) * stride, as the journal version's normalised regression and as the other methods here;
      ``regression: exp`` is the conference version's exp(x) in pixels.
    * centerness sits on the regression tower (journal version), or on the tower that ``centerness_tower`` names.
    * GIoU loss with weight 1, centre sampling with radius 1.5, focal loss alpha 0.25, gamma 2 (the authors' release).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aweigh.train.dense.boxes import area, paired_iou_and_giou, xyxy_to_ltrb
from aweigh.train.dense.losses import focal_sum
from aweigh.train.dense.points import Points
from aweigh.train.kernels.transfer import on_device
from aweigh.train.methods.base import Method, mean_over_processes
from aweigh.train.methods.candidates import Pairs, centerness, sole_owner
from aweigh.train.methods.explanation import Explanation, ones
from aweigh.train.methods.listing import centre_region, inside_pairs
from aweigh.train.methods.values import Branch, Maps, Predictions, Targets


@dataclass(frozen=True)
class FCOSConfig:
    """Constants of the authors' release.

    Attributes:
        radius: of the centre region, in strides.
        level_limits_px: longest distance to a side up to which each level is responsible; the last has no limit.
        alpha: of the focal loss.
        regression: how the output x of the scaled regression reads as distances: relu(x) strides, or exp(x) pixels.
        centerness_tower: the tower that the centerness branch sits on.
    """

    radius: float = 1.5
    level_limits_px: tuple[float, ...] = (64.0, 128.0, 256.0, 512.0)
    alpha: float = 0.25
    regression: Literal["relu", "exp"] = "relu"
    centerness_tower: Literal["cls", "reg"] = "reg"


class FCOS(Method):
    name = "fcos"
    title = "FCOS"
    paper = "arXiv 2006.09214"
    third_output = "centerness"
    config_class = FCOSConfig
    config: FCOSConfig

    def branches(self) -> tuple[Branch, ...]:
        return (
            Branch("cls", 0, "cls"),
            Branch("reg", 4, "reg", bias=4.0 if self.config.regression == "relu" else 0.0, scaled=True),
            Branch("obj", 1, self.config.centerness_tower),
        )

    def distances_px(self, maps: Maps, points: Points, level: int) -> Tensor:
        if self.config.regression == "exp":
            return maps["reg"].float().exp()
        return super().distances_px(maps, points, level)

    def loss(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> dict[str, Tensor]:
        dtype = predictions.reg.dtype
        pairs, ltrb = self.assign(points, targets)
        cell = pairs.cell(len(points.xy))
        boxes_xyxy = self.all_boxes(predictions, points)
        _, giou = paired_iou_and_giou(boxes_xyxy, cell, targets.boxes_xyxy.to(dtype), pairs.truth)
        centred = centerness(ltrb).to(dtype)

        positives = mean_over_processes(giou.new_full((), float(len(pairs))), least=1)
        classified = focal_sum(
            predictions.cls_logits.flatten(0, 1), cell, pairs.of_truth(targets.labels), self.config.alpha
        )
        obj_logits = predictions.obj_logits.flatten().index_select(0, cell)
        centring = F.binary_cross_entropy_with_logits(obj_logits, centred, reduction="sum")
        normaliser = mean_over_processes(centred.sum(), least=1e-6)
        return {
            "loss_cls": classified / positives,
            "loss_bbox": (centred * (1 - giou)).sum() / normaliser,
            "loss_centerness": centring / positives,
        }

    def explain(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> Explanation:
        """Positives count 1; the prior is their centerness."""
        pairs, ltrb = self.assign(points, targets)
        return Explanation(pairs, ones(pairs), 0 * ones(pairs), centerness(ltrb))

    @torch.no_grad()
    def assign(self, points: Points, targets: Targets) -> tuple[Pairs, Tensor]:
        """Positive pairs, each point at most once, and their target distances ltrb [N, 4] in pixels."""
        pairs = inside_pairs(points, targets, centre_region(self.config.radius))
        ltrb = xyxy_to_ltrb(pairs.at_point(points.xy), pairs.of_truth(targets.boxes_xyxy))
        limits = on_device(torch.tensor([0.0, *self.config.level_limits_px, torch.inf], dtype=ltrb.dtype), ltrb.device)
        level = pairs.at_point(points.levels()).clamp(max=len(limits) - 2)
        longest = ltrb.amax(dim=1)
        fits = (longest >= limits[level]) & (longest <= limits[level + 1])
        smallness = torch.where(fits, -pairs.of_truth(area(targets.boxes_xyxy)), -torch.inf)
        cells = len(points.xy) * len(targets.per_image())
        owner = sole_owner(pairs, smallness, pairs.cell(len(points.xy)), cells)
        keep = torch.nonzero(owner & fits)[:, 0]
        return pairs.take(keep), ltrb.index_select(0, keep)

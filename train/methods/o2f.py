"""O2F: one-to-few label assignment for end-to-end dense detection (arXiv 2303.11567v1), as github.com/strongwolf/o2f.

Each truth has one certain point and a few ambiguous ones, which are positive and negative at once with soft labels
that fade over the training; in the end one point per object scores high, and no NMS is needed.

Symbols: s ``joint`` = sigmoid(cls) sigmoid(centerness); q ``quality`` (Eq. 5); t ``soft_label`` (Eq. 4); T(e)
``temperature`` (Eq. 6); c ``centerness``.

Deviations of the authors' code from the paper (the code is followed):
    * 7 points per truth in all, one certain and at most 6 ambiguous; the paper has 1 + K with K = 7.
    * ambiguous points weigh 0.4 in their binary cross entropy; the paper gives them 1.
    * L_reg is 2 * GIoU loss weighted by the target's centerness and divided by its sum; the paper sums GIoU.
    * L_cls is divided by the number of certain and ambiguous points; the paper states no normaliser.
Deviations of this file from the code:
    * without any positive the box loss is 0; the code returns the sum of all predicted distances.
    * an image without truths works; the code raises ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aweigh.train.dense.boxes import paired_iou_and_giou, xyxy_to_ltrb
from aweigh.train.dense.losses import joint_negative_log, negative_focal_at
from aweigh.train.dense.points import Points
from aweigh.train.methods.base import Method, mean_over_processes
from aweigh.train.methods.candidates import Pairs, centerness, sole_owner
from aweigh.train.methods.explanation import Explanation, mean_of
from aweigh.train.methods.listing import centre_region, inside_pairs
from aweigh.train.methods.values import Branch, Predictions, Targets


@dataclass(frozen=True)
class O2FConfig:
    """Constants of the authors' release.

    Attributes:
        points_per_truth: certain and ambiguous together.
        radius: of the centre region, in strides.
        quality_power: alpha of q = s^(1 - alpha) IoU^alpha.
        temperature: T at the start and at the end of the training.
        ambiguous_weight: of an ambiguous point's classification.
        negative_scale: alpha of the negatives' focal loss.
        box_scale: factor of the box loss.
        centerness_convs: extra convolutions of the centerness branch, 0 to 3.
    """

    points_per_truth: int = 7
    radius: float = 1.5
    quality_power: float = 0.8
    temperature: tuple[float, float] = (0.6, 0.2)
    ambiguous_weight: float = 0.4
    negative_scale: float = 0.75
    box_scale: float = 2.0
    centerness_convs: int = 3


@dataclass(frozen=True)
class O2FAssignment:
    """Candidates of all truths, and the points each truth keeps.

    Attributes:
        candidates: pairs inside box and centre region.
        iou, quality: [N] of the candidates.
        index: [kept] of the kept pairs among the candidates.
        kept: the pairs of certain and ambiguous points; a point appears once.
        soft_label, soft_weight: [kept] target and weight of the classification.
        giou: [kept], with gradient.
        centerness: [kept] of the target distances, 0 to 1.
        ltrb_px: [kept, 4] target distances.
    """

    candidates: Pairs
    iou: Tensor
    quality: Tensor
    index: Tensor
    kept: Pairs
    soft_label: Tensor
    soft_weight: Tensor
    giou: Tensor
    centerness: Tensor
    ltrb_px: Tensor


class O2F(Method):
    name = "o2f"
    title = "O2F"
    paper = "arXiv 2303.11567v1"
    third_output = "centerness"
    config_class = O2FConfig
    config: O2FConfig
    one_to_one = True

    @classmethod
    def options_of(cls, branches: Mapping[str, int]) -> dict[str, bool | int]:
        return {"centerness_convs": branches.get("obj", 0)}

    def branches(self) -> tuple[Branch, ...]:
        return (
            Branch("cls", 0, "cls"),
            Branch("reg", 4, "reg", bias=4.0, scaled=True),
            Branch("obj", 1, "reg", extra_convs=self.config.centerness_convs),
        )

    def temperature(self, progress: float) -> float:
        """T(e), Eq. 6: linear over the training."""
        start, end = self.config.temperature
        return start + (end - start) * progress

    def loss(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> dict[str, Tensor]:
        config = self.config
        chosen = self.assign(predictions, points, targets, progress)
        negative, cls_logits, obj_logits = predictions.negatives(
            chosen.kept.cell(len(points.xy)), chosen.kept.of_truth(targets.labels)
        )
        joint = cls_logits.sigmoid() * obj_logits.sigmoid()

        positives = mean_over_processes(joint.new_full((), float(len(chosen.kept))), least=1)
        raising = joint_negative_log(cls_logits, obj_logits)
        lowering = -torch.log1p(-joint.clamp(max=1 - torch.finfo(joint.dtype).eps))
        soft = chosen.soft_label * raising + (1 - chosen.soft_label) * lowering
        classified = (chosen.soft_weight * soft).sum()
        negative = negative - negative_focal_at(cls_logits, obj_logits).sum()

        normaliser = mean_over_processes(chosen.centerness.sum(), least=1e-6)
        located = (chosen.centerness * (1 - chosen.giou)).sum() / normaliser
        return {
            "loss_cls": (classified + config.negative_scale * negative) / positives,
            "loss_bbox": config.box_scale * located,
        }

    def explain(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> Explanation:
        """Soft labels times their weights on either side; the prior is the centre region, whole."""
        chosen = self.assign(predictions, points, targets, progress)
        certain = chosen.soft_weight == 1
        quantities = {
            "temperature": self.temperature(progress),
            "soft_label": mean_of(chosen.soft_label[~certain]),
            "ambiguous_per_truth": float((~certain).sum()) / max(1, len(targets)),
        }
        positive = torch.zeros_like(chosen.quality).index_copy(0, chosen.index, chosen.soft_weight * chosen.soft_label)
        negative = torch.ones_like(chosen.quality).index_copy(
            0, chosen.index, chosen.soft_weight * (1 - chosen.soft_label)
        )
        return Explanation(chosen.candidates, positive, negative, torch.ones_like(positive), quantities)

    def assign(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> O2FAssignment:
        """Certain and ambiguous points with their soft labels (Sec. 3.2-3.3)."""
        dtype = predictions.reg.dtype
        pairs = inside_pairs(points, targets, centre_region(self.config.radius))
        iou, giou, joint = self._candidate_terms(predictions, points, targets, pairs)
        with torch.no_grad():
            alpha = self.config.quality_power
            quality = joint ** (1 - alpha) * iou.detach() ** alpha  # Eq. 5
            best = (pairs.rank(quality) < self.config.points_per_truth) & (iou > 0)
            merit = torch.where(best, quality, -torch.inf)
            cells = predictions.obj_logits.numel()
            kept_index = torch.nonzero(best & sole_owner(pairs, merit, pairs.cell(len(points.xy)), cells))[:, 0]
            kept = pairs.take(kept_index)
            quality_kept, joint_kept = quality.index_select(0, kept_index), joint.index_select(0, kept_index)
            label, weight = self._soft_labels(kept, quality_kept, joint_kept, progress)
            ltrb = xyxy_to_ltrb(kept.at_point(points.xy).to(dtype), kept.of_truth(targets.boxes_xyxy).to(dtype))
        return O2FAssignment(
            pairs,
            iou.detach(),
            quality,
            kept_index,
            kept,
            label,
            weight,
            giou.index_select(0, kept_index),
            centerness(ltrb),
            ltrb,
        )

    def _candidate_terms(
        self, predictions: Predictions, points: Points, targets: Targets, pairs: Pairs
    ) -> tuple[Tensor, Tensor, Tensor]:
        """IoU, GIoU and joint score of each candidate."""
        boxes_xyxy, cell = self.all_boxes(predictions, points), pairs.cell(len(points.xy))
        truths_xyxy = targets.boxes_xyxy.to(boxes_xyxy.dtype)
        iou, giou = paired_iou_and_giou(boxes_xyxy, cell, truths_xyxy, pairs.truth)
        return iou, giou, predictions.joint_at(cell, pairs.of_truth(targets.labels))

    def _soft_labels(self, kept: Pairs, quality: Tensor, joint: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """Eq. 4: 1 for the certain point of a truth; score over the best ambiguous score, times T, for the others."""
        certain = kept.rank(quality) == 0
        highest = kept.max(torch.where(certain, -torch.inf, joint))[kept.truth]
        ambiguous = self.temperature(progress) * joint / highest
        label = torch.where(certain, 1.0, ambiguous)
        weight = torch.where(certain, 1.0, self.config.ambiguous_weight)
        return label.to(joint.dtype), weight.to(joint.dtype)

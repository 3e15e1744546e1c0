"""DW: a dual weighting label assignment (arXiv 2203.09730v1), as github.com/strongwolf/DW computes it.

Each point inside a box gets a positive and a negative weight of its own, from the consistency of its classification
score and its box; a refinement step moves each side of the box to where the box predicted at that side says it is.

Symbols: s ``joint`` = sigmoid(cls) sigmoid(obj); p_loc = exp(-5 (1 - GIoU)); G ``prior``; w_pos ``positive_weight``;
P_neg ``negative_share``; u ``iou``.

Deviations of the authors' code from the paper (the code is followed, it made the published numbers):
    * w_pos = e^(5p) p G / sum(e^(3p) p G): two exponents, where Eq. 5 has one; a truth's weights do not sum to 1.
    * consistency p = s exp(-5 (1 - GIoU)) for Eq. 4's s IoU^beta.
    * P_neg (Eq. 8): a parabola through (0.5, 1) and (1, 0), then scaled per truth so that its best point has 0, for
      the paper's curve that ends at IoU 0.95.
    * the centre prior is exp(-r^2 / (2 * 1.11^2)), fixed, for e^(-r^2).
    * loss weights 0.25 on both positive terms, 1 on the negative; normalised by the number of truths and by the sum
      of 1 - P_neg over the batch, where the paper has no normaliser.
    * refinement samples absolute coordinates with zeros outside the map, and subtracts the predicted side offsets.
    * points outside every box: s^2 (-ln(1 - s)), without the focal loss' alpha.
Deviations of this file from the code: none in value. Its refinement fails in backward on current torch (an
in-place product on relu's output); here it does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from aweigh.train.dense.boxes import paired_iou_and_giou
from aweigh.train.dense.losses import joint_negative_log, negative_focal_at
from aweigh.train.dense.points import Points
from aweigh.train.dense.sampling import cells_of, sample_zero_outside
from aweigh.train.methods.base import Method, MethodFlag, mean_over_processes
from aweigh.train.methods.candidates import Pairs, last_truth_wins, rank_within
from aweigh.train.methods.explanation import Explanation, mean_of
from aweigh.train.methods.listing import inside_pairs
from aweigh.train.methods.values import Branch, Maps, Predictions, Targets, at_least_float32


@dataclass(frozen=True)
class DWConfig:
    """Constants of the authors' release.

    Attributes:
        refine: whether boxes are refined at their sides (Sec. 3.4).
        localisation: 5 in p_loc = exp(-5 (1 - GIoU)).
        sharpness: exponent of the positive weight, 5, and of its normaliser, 3.
        bag: candidates of a truth among the points inside its box (Table 4): ``soft``, all of them, weighted by the
            centre prior; ``threshold``, those nearer to its centre than ``radius``; ``top-k``, the ``nearest`` of each
            level. The authors' code has the first.
        radius: of the threshold, in strides.
        nearest: points per level of top-k.
        sigma: of the soft centre prior, in strides.
        positive_scale: factor of both positive terms.
        iou_floor: IoU below which a point inside a box is fully negative.
    """

    refine: bool = True
    localisation: float = 5.0
    sharpness: tuple[float, float] = (5.0, 3.0)
    bag: Literal["soft", "threshold", "top-k"] = "soft"
    radius: float = 1.7
    nearest: int = 12
    sigma: float = 1.11
    positive_scale: float = 0.25
    iou_floor: float = 0.5


@dataclass(frozen=True)
class DWWeights:
    """What DW gives to each (point, truth) pair, all [N], detached except ``giou`` and the joint score."""

    pairs: Pairs
    labels: Tensor
    prior: Tensor
    iou: Tensor
    giou: Tensor
    positive_weight: Tensor
    negative_share: Tensor


class DW(Method):
    name = "dw"
    title = "DW"
    paper = "arXiv 2203.09730v1"
    third_output = "objectness"
    config_class = DWConfig
    config: DWConfig
    flags = (MethodFlag("--no-refine", "refine", "DW without box refinement", value=False),)

    @classmethod
    def options_of(cls, branches: Mapping[str, int]) -> dict[str, bool | int]:
        return {"refine": "offset" in branches}

    def branches(self) -> tuple[Branch, ...]:
        return (*super().branches(), *((Branch("offset", 8, "reg"),) if self.config.refine else ()))

    def regression_px(self, maps: Sequence[Maps], points: Points) -> Tensor:
        if not self.config.refine:
            return super().regression_px(maps, points)
        distances, offset = (
            torch.cat([at_least_float32(level[name]).flatten(2) for level in maps], dim=2) for name in ("reg", "offset")
        )
        return refine(distances.relu(), offset, points).transpose(1, 2)

    def loss(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> dict[str, Tensor]:
        weights = self.weigh(predictions, points, targets)
        negative, cls_logits, obj_logits = predictions.negatives(weights.pairs.cell(len(points.xy)), weights.labels)

        truths = mean_over_processes(cls_logits.new_full((), float(len(targets))), least=1)
        scale = self.config.positive_scale / truths
        negative_log = joint_negative_log(cls_logits, obj_logits)
        classified = scale * (weights.positive_weight * negative_log).sum()
        located = scale * (weights.positive_weight * self.config.localisation * (1 - weights.giou)).sum()

        # Every (point, class) counts fully as a negative but those written by a pair, which count P_neg.
        writes = last_truth_wins(weights.pairs, weights.labels, len(points.xy), self.num_classes)
        spared = (1 - weights.negative_share).masked_fill_(~writes, 0.0)
        negative = negative - (spared * negative_focal_at(cls_logits, obj_logits)).sum()
        # In float32 whatever the precision of the rest, as the authors' reduction over processes does.
        normaliser = mean_over_processes(spared.sum(), least=1).float()
        return {"loss_cls_pos": classified, "loss_loc": located, "loss_cls_neg": negative / normaliser}

    def explain(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> Explanation:
        """w_pos and P_neg as they are; quantities: IoU of the positives by weight, and the mean of P_neg."""
        weights = self.weigh(predictions, points, targets)
        weight = weights.positive_weight
        iou = float((weight * weights.iou).sum() / weight.sum().clamp(min=1e-12))
        quantities = {"weighted_iou": iou, "negative_share": mean_of(weights.negative_share)}
        return Explanation(weights.pairs, weight, weights.negative_share, weights.prior, quantities)

    def weigh(self, predictions: Predictions, points: Points, targets: Targets) -> DWWeights:
        """Positive and negative weights of all pairs (Sec. 3.3)."""
        config, dtype = self.config, predictions.reg.dtype
        pairs, prior = self._bag(points, targets, dtype)
        cell, labels = pairs.cell(len(points.xy)), pairs.of_truth(targets.labels)
        boxes_xyxy = self.all_boxes(predictions, points)
        iou, giou = paired_iou_and_giou(boxes_xyxy, cell, targets.boxes_xyxy.to(dtype), pairs.truth)
        with torch.no_grad():
            joint = predictions.joint_at(cell, labels)
            consistency = joint * (-config.localisation * (1 - giou)).exp()  # Eq. 4
            above, below = (torch.exp(k * consistency) * consistency * prior for k in config.sharpness)  # Eq. 5
            positive_weight = above / pairs.of_truth(pairs.sum(below).clamp(min=1e-12))
            negative_share = self._negative_share(iou, pairs)
        return DWWeights(pairs, labels, prior, iou.detach(), giou, positive_weight, negative_share)

    @torch.no_grad()
    def _bag(self, points: Points, targets: Targets, dtype: torch.dtype) -> tuple[Pairs, Tensor]:
        """Candidates and their centre prior [N]."""
        config = self.config
        pairs = inside_pairs(points, targets)
        square = pairs.from_centre(points, targets, dtype).square().sum(dim=0)
        if config.bag == "soft":
            return pairs, (-square / (2 * config.sigma**2)).exp()
        if config.bag == "threshold":
            pairs = pairs.take(square < config.radius**2)
        else:
            group = pairs.truth * len(points.strides) + pairs.at_point(points.levels())
            pairs = pairs.take(rank_within(group, -square, len(targets) * len(points.strides)) < config.nearest)
        return pairs, torch.ones(len(pairs), dtype=dtype, device=square.device)

    def _negative_share(self, iou: Tensor, pairs: Pairs) -> Tensor:
        """P_neg (Eq. 8): 1 below the IoU floor, then falling to 0 at the truth's best point."""
        floor = self.config.iou_floor
        fall = (1 - iou.square()) / (1 - floor**2)
        low, high = pairs.of_truth(pairs.min(fall)), pairs.of_truth(pairs.max(fall).clamp(max=1))
        return ((fall - low + 1e-12) / (high - low + 1e-12)).masked_fill_(iou < floor, 1.0)


def refine(distances: Tensor, offset: Tensor, points: Points) -> Tensor:
    """Move every side to where the box predicted near that side says it is (Sec. 3.4, Eq. 10-11).

    Args:
        distances: [B, 4, P] ltrb in cells of the point's level, at least 0.
        offset: [B, 8, P] cells, (row, column) for the left, top, right and bottom side.
        points: where they are predicted; a side is looked for in the map of its own level.

    Returns:
        [B, 4, P] refined ltrb in pixels, at least 0.
    """
    cells, dtype = cells_of(points, distances.dtype), distances.dtype
    side = torch.arange(4, device=distances.device)
    outward = (side // 2 * 2 - 1).to(dtype)[
        :, None
    ]  # left and top lie at smaller coordinates, right and bottom at larger
    along = torch.stack((side % 2, 1 - side % 2)).to(dtype)[:, None, :, None]  # top and bottom move the row
    origin = points.xy.to(dtype).T.repeat(2, 1)  # [4, P]
    sides = origin + outward * (distances * points.stride.to(dtype))
    offset_cells = torch.unflatten(offset, 1, (4, 2)).permute(2, 0, 1, 3)
    place = cells.place[:, None, None] + along * (outward * distances) + offset_cells
    return ((sample_zero_outside(sides, place, cells) - origin) * outward).relu()

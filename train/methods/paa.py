"""PAA: probabilistic anchor assignment with IoU prediction (arXiv 2007.08103v2), as github.com/kkhoot/PAA.

The losses of an object's candidate anchors are read as a mixture of two Gaussians, good and bad ones; the good ones
become positives. A branch predicts the IoU of each box, and ranks by it together with the class.

Symbols: score loss ``score_loss`` (Eq. 4-6, the negative log of the anchor score); K ``candidates_per_level``.

Deviations of the authors' code from the paper (the code is followed):
    * anchors of a truth: those of IoU >= 0.1 whose best truth it is, and those tied at the truth's highest IoU.
    * ranking score: the square root of class probability times predicted IoU.
    * the box loss is weighted by the IoU and divided by its sum; lambda1 is 1 in the score and 1.3 in the loss.
    * boundary (c) of Fig. 3; the paper's ablation has (d) 0.1 AP higher.
    * areas, IoU and box coding count a pixel more per side (w = x2 - x1 + 1), except in the box loss; ``pixels:
      continuous`` does not, as mmdet's PAA, which also bounds the coded size on both sides.
Deviations of this file from the code:
    * mixtures of all truths are fitted together, in float64 (the split is the same).
    * images without truths work; the code raises ValueError. Without any positive the box loss is 0.

The anchor ties the method to the size of its input: 8 strides are 64 px at least. BCCD at 384x288, platelets of 24 px
(2026-11-20, r18, seed 0, val after 250 of 750 iterations): AP 0.522 (small 0.046, medium 0.390, large 0.670); with
``anchor_scale: 4`` 0.536 (0.231, 0.424, 0.646); FCOS, which has no anchors, 0.538 (0.090, 0.397, 0.683). So a training
chooses ``anchor_scale`` from its boxes where the recipe does not state it, as the papers' recipes do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from aweigh.runtime.spec import PostSpec
from aweigh.train.dense.boxes import paired_iou_and_giou
from aweigh.train.dense.losses import focal_change, negative_focal_rows
from aweigh.train.dense.points import Points
from aweigh.train.kernels.mixture import FEWEST, Mixtures, fit_mixtures
from aweigh.train.kernels.overlap import grown_overlap
from aweigh.train.methods.anchors import best_iou, fitting_scale, match_anchors
from aweigh.train.methods.base import ChosenOptions, Method, MethodFlag, mean_over_processes
from aweigh.train.methods.candidates import Pairs, rank_within
from aweigh.train.methods.explanation import Explanation, Mixture, mean_of
from aweigh.train.methods.values import Branch, Maps, Predictions, Targets, at_least_float32

_GIOU_EPS = 1e-7
_MAX_DELTA = math.log(1000 / 16)
# A box that its best anchor covers with less than this has next to no candidates but forced ones: BCCD's platelets at
# the authors' scale have 0.14, and an AP of a fifth of what 0.56 gives them.
_POOR_IOU = 0.25


@dataclass(frozen=True)
class PAAConfig:
    """Constants of the authors' release.

    Attributes:
        anchor_scale: side of the one square anchor, in strides.
        min_iou: of an anchor with its truth.
        candidates_per_level: K, the anchors of lowest score loss per truth and level.
        boundary: of Fig. 3: ``b`` every anchor likelier good than bad, ``c`` up to the most likely good one, ``d`` as
            ``c``, but of the good component's own density.
        alpha: of the focal loss.
        box_scale, iou_scale: lambda1 and lambda2 of the loss.
        delta_weights: of centre and size in the box coding.
        pixels: whether a box covers its last pixel too.
        point_offset: place of the anchors in their cells; mmdet's stand at the corners.
    """

    anchor_scale: int = 8
    min_iou: float = 0.1
    candidates_per_level: int = 9
    boundary: Literal["b", "c", "d"] = "c"
    alpha: float = 0.25
    box_scale: float = 1.3
    iou_scale: float = 0.5
    delta_weights: tuple[float, float] = (10.0, 5.0)
    pixels: Literal["plus-one", "continuous"] = "plus-one"
    point_offset: float = 0.5

    @property
    def extra_px(self) -> float:
        """What a side covers beyond the distance of its ends."""
        return 1.0 if self.pixels == "plus-one" else 0.0


@dataclass(frozen=True)
class PAAAssignment:
    """From anchors to positives.

    Attributes:
        matched: pairs of stage 1, an anchor at most once; ``score_loss`` [N] of each.
        candidates: [G, n] index into ``matched``, sorted by score loss, -1 where there is none.
        mixtures: of all truths; they mean something for those with two candidates or more, which ``fitted`` [G] marks.
        index: of the positives, into ``matched``.
    """

    matched: Pairs
    score_loss: Tensor
    candidates: Tensor
    fitted: Tensor
    mixtures: Mixtures
    index: Tensor

    @property
    def positives(self) -> Pairs:
        return self.matched.take(self.index)


class PAA(Method):
    name = "paa"
    title = "PAA"
    paper = "arXiv 2007.08103v2"
    third_output = "predicted IoU"
    config_class = PAAConfig
    config: PAAConfig
    flags = (MethodFlag("--paa-boundary", "boundary", "PAA's split of Fig. 3 (default c)", choices=("b", "c", "d")),)
    threshold_gates = "class-probability"

    @classmethod
    def options_for(
        cls, sizes_px: npt.NDArray[np.floating[Any]], strides: Sequence[int], given: Mapping[str, Any]
    ) -> ChosenOptions:
        """``anchor_scale``, as :func:`~aweigh.train.methods.anchors.fitting_scale` chooses it."""
        if "anchor_scale" in given or not len(sizes_px):
            return ChosenOptions()
        scale, why = fitting_scale(sizes_px, strides, PAAConfig.anchor_scale)
        return ChosenOptions({"anchor_scale": scale}, f"anchor_scale {scale}: {why}")

    def unsuited(self, sizes_px: npt.NDArray[np.floating[Any]], strides: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Boxes that no anchor covers with an IoU of a quarter."""
        return best_iou(sizes_px, self.config.anchor_scale, strides) < _POOR_IOU

    def __init__(self, num_classes: int, config: PAAConfig | None = None) -> None:
        super().__init__(num_classes, config)
        self.point_offset = self.config.point_offset

    def branches(self) -> tuple[Branch, ...]:
        return (
            Branch("cls", 0, "cls"),
            Branch("reg", 4, "reg", scaled=True),
            Branch("obj", 1, "reg"),
        )

    def distances_px(self, maps: Maps, points: Points, level: int) -> Tensor:
        """The deltas as they are; anchors scale them."""
        return at_least_float32(maps["reg"])

    def boxes(self, reg: Tensor, points_xy: Tensor, stride: Tensor) -> Tensor:
        centre_weight, size_weight = self.config.delta_weights
        side = (self.config.anchor_scale * stride)[..., None]
        centre = reg[..., :2] / centre_weight * side + points_xy
        least = None if self.config.pixels == "plus-one" else -_MAX_DELTA
        size = (reg[..., 2:] / size_weight).clamp(min=least, max=_MAX_DELTA).exp() * side
        half = (size - self.config.extra_px) / 2
        return torch.cat((centre - half, centre + half), dim=-1)

    def encode(self, boxes_xyxy: Tensor, points_xy: Tensor, stride: Tensor) -> Tensor:
        centre_weight, size_weight = self.config.delta_weights
        side = (self.config.anchor_scale * stride)[..., None]
        size = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2] + self.config.extra_px
        centre = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2
        return torch.cat((centre_weight * (centre - points_xy) / side, size_weight * (size / side).log()), dim=-1)

    def scores(self, predictions: Predictions) -> Tensor:
        """Square root of class probability times predicted IoU."""
        return (predictions.cls_logits.sigmoid() * predictions.obj_logits.sigmoid()[..., None]).sqrt()

    def post(self) -> PostSpec:
        return PostSpec(
            kind="vote",
            nms_form="onnx",
            threshold_gates=self.threshold_gates,
            iou_convention=self.config.pixels,
            clip="size-minus-one" if self.config.pixels == "plus-one" else "size",
            top_k_unit="image-pairs",
        )

    def loss(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> dict[str, Tensor]:
        config = self.config
        matched = self.match(points, targets)
        cell, labels = matched.cell(len(points.xy)), matched.of_truth(targets.labels)
        boxes_xyxy, truths_xyxy = self.all_boxes(predictions, points), targets.boxes_xyxy.to(predictions.reg.dtype)
        logits = predictions.cls_logits.flatten(0, 1)
        rows, own = negative_focal_rows(logits, None, cell * self.num_classes + labels)
        score_loss = self._score_loss(rows, own, boxes_xyxy, truths_xyxy, matched, cell)
        chosen = self._chosen(matched, score_loss, points)
        index = chosen.index
        pairs, cell = matched.take(index), cell.index_select(0, index)
        _, giou = paired_iou_and_giou(boxes_xyxy, cell, truths_xyxy, pairs.truth, eps=_GIOU_EPS)
        overlap = grown_overlap(boxes_xyxy.detach(), cell, truths_xyxy, pairs.truth, self.config.extra_px)

        positives = mean_over_processes(overlap.new_full((), float(len(pairs))), least=1)
        classified = (1 - config.alpha) * rows.sum() + focal_change(own.index_select(0, index), config.alpha).sum()
        normaliser = mean_over_processes(overlap.sum(), least=1e-12)
        predicted = F.binary_cross_entropy_with_logits(
            predictions.obj_logits.flatten().index_select(0, cell), overlap, reduction="sum"
        )
        return {
            "loss_cls": classified / positives,
            "loss_reg": config.box_scale * (overlap * (1 - giou)).sum() / normaliser,
            "loss_iou_pred": config.iou_scale * predicted / positives,
        }

    def explain(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> Explanation:
        """Positives count 1; quantities: separation of the two components in deviations, and how many are positive."""
        chosen = self.assign(predictions, points, targets)
        positive = torch.zeros_like(chosen.score_loss)
        positive[chosen.index] = 1.0
        quantities = {"separation": 0.0, "positives_per_truth": len(chosen.index) / max(1, len(targets))}
        mixtures = {}
        means, spread = chosen.mixtures.means, chosen.mixtures.variances.mean(dim=1).sqrt()
        quantities["separation"] = mean_of(((means[:, 1] - means[:, 0]) / spread)[chosen.fitted])
        for truth in torch.nonzero(chosen.fitted)[:, 0].tolist():
            index = chosen.candidates[truth][chosen.candidates[truth] >= 0]
            losses = chosen.score_loss[index].tolist()
            components = (getattr(chosen.mixtures, name)[truth].tolist() for name in ("weights", "means", "variances"))
            mixtures[truth] = Mixture(index.tolist(), losses, *(tuple(pair) for pair in components))
        return Explanation(chosen.matched, positive, 1 - positive, None, quantities, mixtures)

    @torch.no_grad()
    def assign(self, predictions: Predictions, points: Points, targets: Targets) -> PAAAssignment:
        """Procedure 1 of the paper."""
        matched = self.match(points, targets)
        cell, labels = matched.cell(len(points.xy)), matched.of_truth(targets.labels)
        logits = predictions.cls_logits.detach().flatten(0, 1)
        rows, own = negative_focal_rows(logits, None, cell * self.num_classes + labels)
        boxes_xyxy, truths_xyxy = self.all_boxes(predictions, points), targets.boxes_xyxy.to(predictions.reg.dtype)
        return self._chosen(matched, self._score_loss(rows, own, boxes_xyxy, truths_xyxy, matched, cell), points)

    def match(self, points: Points, targets: Targets) -> Pairs:
        """Stage 1: the anchors of each truth; an anchor belongs to one truth at most."""
        return match_anchors(points, targets, self.config.anchor_scale, self.config.min_iou, self.config.extra_px)

    @torch.no_grad()
    def _score_loss(
        self, rows: Tensor, own: Tensor, boxes_xyxy: Tensor, truths_xyxy: Tensor, pairs: Pairs, cell: Tensor
    ) -> Tensor:
        """[N] focal loss over the classes of an anchor plus 1 - GIoU.

        Args:
            rows: [B * P] negative focal term of each anchor, summed over the classes.
            own: [N] class logit of each pair's truth.
        """
        alpha = self.config.alpha
        classified = (1 - alpha) * rows.index_select(0, cell) + focal_change(own, alpha)
        _, giou = paired_iou_and_giou(boxes_xyxy, cell, truths_xyxy, pairs.truth, eps=_GIOU_EPS)
        return classified + (1 - giou)

    @torch.no_grad()
    def _chosen(self, matched: Pairs, score_loss: Tensor, points: Points) -> PAAAssignment:
        """Stage 2: mixtures over the candidates, and the positives they give."""
        candidates, losses = self._candidates(matched, score_loss, points)
        held = candidates >= 0
        mixtures = fit_mixtures(losses, held)
        fitted = held.sum(dim=1) >= FEWEST
        chosen = torch.where(fitted[:, None], self._good(mixtures, held, losses), held)  # a lone candidate is positive
        return PAAAssignment(matched, score_loss, candidates, fitted, mixtures, candidates[chosen])

    def _candidates(self, pairs: Pairs, score_loss: Tensor, points: Points) -> tuple[Tensor, Tensor]:
        """[G, levels * K] indices of the lowest losses of each level, sorted by loss, and the losses; -1 fills up."""
        levels, most = len(points.strides), self.config.candidates_per_level
        group = pairs.truth * levels + pairs.at_point(points.levels())
        groups = pairs.truths * levels
        place = rank_within(group, -score_loss, groups)
        # The last place takes those that are no candidates.
        table = place.new_full((groups * most + 1,), -1)
        at = torch.where(place < most, group * most + place, groups * most)
        table = table.index_copy_(0, at, torch.arange(len(place), device=place.device))[:-1].view(-1, levels * most)
        losses = torch.cat((score_loss, score_loss.new_full((1,), torch.inf)))[table]  # of -1: the last
        losses, order = losses.sort(dim=1, stable=True)
        return table.gather(1, order), losses

    def _good(self, mixtures: Mixtures, valid: Tensor, losses: Tensor) -> Tensor:
        """[G, n] bool: the positives among candidates sorted by loss (Fig. 3)."""
        good = (mixtures.component == 0) & valid
        if self.config.boundary == "b":
            chosen = good
        else:
            likely = mixtures.log_likelihood
            if self.config.boundary == "d":
                likely = -(losses - mixtures.means[:, :1]).square()
            likely = likely.masked_fill(~good, -torch.inf)
            top = likely.argmax(dim=1, keepdim=True)
            chosen = torch.arange(valid.shape[1], device=valid.device) <= top
        # No member of the good component: all candidates are positive.
        return torch.where(good.any(dim=1, keepdim=True), chosen, True) & valid

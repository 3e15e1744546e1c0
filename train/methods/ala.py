"""ALA: automatic label assignment (Wang, Jia, Wang, Zuo: "Automatic Label Assignment for Object Detection").

A branch on the pyramid separates foreground from background; with a learned centre prior it weighs the confidence of
each point into a quality. The statistics of an object's qualities sort its points into hard positives, soft positives
whose labels fade over the training, and negatives.

Symbols: S+ ``log_score`` is its logarithm (Eq. 7); P_loc (Eq. 2), C ``log_prior`` (Eq. 4), M+ ``foreground`` (Eq. 5),
M- = 1 - M+; s ``quality``, m and v its mean and deviation per object (Alg. 1); xi ``soft_label`` (Eq. 10).

There is no code by the authors, and as printed the paper does not train. Deviations from the text:
    * Eq. 2: P_loc = exp(-(1 - IoU)^alpha); as printed it falls as the box gets better.
    * Fig. 4: mu = 0, sigma = 1 at the start; the printed mu = 1, sigma = 0 divides by zero. Both have an x and a y.
    * Eq. 4: the gradient of log C is that of C divided by its sum over the object's points; alone, -log C only widens
      sigma. Everything is computed in logarithms.
    * Sec. III-A: "P2" and "P4" of size W/8 and W/32 are P3 and P5; W_S is C to C channels, W_C is 2C to 2.
    * Sec. III-A: softmax over the two channels, for two sigmoids; M- is detached where it weighs negatives, which
      could otherwise be minimised by driving it to 0.
    * Eq. 11 outside the boxes: FL(M+, 0) is added, since nothing else lowers the foreground there.
    * Eq. 6, 7 inside a box: classes other than the object's cost FL(P_cls, 0), unweighted; M- is near 0 there.
    * Eq. 9, 11 for the object's class: lowering terms use P_cls alone, (1 - xi) P_cls^2 (-log(1 - P_cls)) and
      FL(P_cls, 0); S+ holds P_loc and C, which must not be pushed down.
    * Alg. 1 compares s, for the undefined p; m, v and xi are detached, and an object's best point is always hard.
    * Eq. 2: a factor lambda before (1 - IoU)^alpha; the text has none. *
    * Eq. 4: mu and sigma per class, not per image. *
    * Eq. 8, 9 are means over an object's hard points, then over the objects, Eq. 11 over all hard points of batch and
      processes; the text sums. *
    * Sec. IV-D, one-to-one: the points of an object that are not chosen cost the cross entropy -log(1 - P_cls) and
      not FL(P_cls, 0), whose P_cls^2 hardly lowers a neighbour that scores 0.3. *
    * An object that holds no point takes the nearest of stride 8, with GIoU for IoU in P_loc.
    * Of the objects that share a point, the one of the highest quality keeps it, whatever their classes: a point has
      one box. If only objects of one class compete, a point that two classes claim scores high for both and its box
      is wrong for one (tests/train/methods/test_contract.py: free predictions).

* decided by measurements: docs/methods/ala.md has them, and those of the defaults that the paper leaves open.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aweigh.train.dense.boxes import paired_iou_and_giou
from aweigh.train.dense.losses import negative_focal_at, negative_focal_rows
from aweigh.train.dense.points import Points
from aweigh.train.kernels.overlap import columns_at
from aweigh.train.methods.base import Method, MethodFlag, mean_over_processes
from aweigh.train.methods.candidates import Pairs, sole_owner
from aweigh.train.methods.explanation import Explanation, mean_of, mean_prior
from aweigh.train.methods.instance_property import InstancePropertyBranch
from aweigh.train.methods.listing import inside_or_nearest_pairs
from aweigh.train.methods.values import Branch, Maps, Predictions, Targets, at_least_float32

# A logit past which a sigmoid is 1 to the last digit.
_CERTAIN = 40.0
# Of two points the worse lies on the bound m - v itself; the last digit must not decide whether it counts.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class ALAConfig:
    """Constants of the paper, and the choices it leaves open.

    Attributes:
        one_to_one: only an object's best point is positive, and no NMS follows (Sec. IV-D).
        cls_power: beta of P+ = P_cls^beta P_loc^(1 - beta).
        loc_power: alpha of P_loc = exp(-lambda (1 - IoU)^alpha).
        loc_sharpness: lambda; 12.5 makes P_loc^(1 - beta) the e^(-5 (1 - IoU)) of AutoAssign, except for alpha.
        alpha: of the focal loss.
        prior: whether mu and sigma depend on the image (Fig. 4) or on the class only.
        sigma_floor: least sigma, in strides.
        ranking: score at inference, P_cls or P_cls M+.
        mean_over: whether the losses of the positives count every point alike, or every object.
        giou_scale: weight of an additional GIoU loss on the positives; 0 is the paper's text.
    """

    one_to_one: bool = False
    cls_power: float = 0.6
    loc_power: float = 0.8
    loc_sharpness: float = 12.5
    alpha: float = 0.25
    prior: Literal["image", "class"] = "class"
    sigma_floor: float = 0.25
    ranking: Literal["cls", "cls-foreground"] = "cls-foreground"
    mean_over: Literal["points", "objects"] = "objects"
    giou_scale: float = 2.0


@dataclass(frozen=True)
class ALASelection:
    """The points of all objects, sorted into hard, soft and negative.

    Attributes:
        pairs: points inside their objects, each point once.
        log_prior: [N] log C.
        cls_logits: [N] of the object's class, with gradient.
        log_score: [N] log S+, with gradient.
        giou: [N], with gradient.
        quality: [N] S+ over the highest of the object, 0 to 1.
        hard, soft: [N] bool; pairs of neither are negative.
        soft_label: [N] xi.
        dense: a number, the negative term over all points and classes as if no pair were positive.
    """

    pairs: Pairs
    log_prior: Tensor
    cls_logits: Tensor
    log_score: Tensor
    giou: Tensor
    quality: Tensor
    hard: Tensor
    soft: Tensor
    soft_label: Tensor
    dense: Tensor


class ALA(Method):
    name = "ala"
    title = "ALA"
    paper = "Wang, Jia, Wang, Zuo: Automatic Label Assignment for Object Detection"
    third_output = "foreground"
    config_class = ALAConfig
    config: ALAConfig
    flags = (MethodFlag("--one-to-one", "one_to_one", "ALA with one positive per object, exported without NMS"),)

    def __init__(self, num_classes: int, config: ALAConfig | None = None) -> None:
        super().__init__(num_classes, config)
        self.one_to_one = self.config.one_to_one
        # mu and raw sigma per class; what the image adds to them starts at zero.
        self.prior = nn.Parameter(torch.zeros(num_classes, 4))

    def branches(self) -> tuple[Branch, ...]:
        return (
            Branch("cls", 0, "cls"),
            Branch("reg", 4, "reg", bias=4.0, scaled=True),
            Branch("obj", 1, "pyramid"),
        )

    def build(self, channels: int) -> None:
        self.property_branch = InstancePropertyBranch(channels)
        if self.config.prior == "image":
            self.prior_of_image = nn.Linear(channels, 4 * self.num_classes, bias=False)
            nn.init.zeros_(self.prior_of_image.weight)

    def pyramid_maps(self, features: Sequence[Tensor]) -> list[Maps]:
        """Foreground of every level as a logit, and with the first what the image adds to the prior."""
        maps: list[Maps] = [{"obj": logit} for logit in self.property_branch(features)]
        if self.config.prior == "image":
            pooled = torch.stack([level.mean(dim=(2, 3)) for level in features]).mean(dim=0)
            maps[0]["prior"] = self.prior_of_image(pooled)
        return maps

    def predictions(self, maps: Sequence[Maps], points: Points) -> Predictions:
        base = super().predictions(maps, points)
        if "prior" not in maps[0]:
            return base
        return dataclasses.replace(base, image_terms=at_least_float32(maps[0]["prior"]).view(-1, self.num_classes, 4))

    def scores(self, predictions: Predictions) -> Tensor:
        """P_cls, or P_cls M+."""
        return predictions.cls_logits.sigmoid() if self.config.ranking == "cls" else super().scores(predictions)

    def loss(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> dict[str, Tensor]:
        config = self.config
        chosen = self.select(predictions, points, targets, progress)
        raising, dtype = -chosen.log_score, chosen.log_score.dtype
        lowering = negative_focal_at(chosen.cls_logits)

        hard_count = mean_over_processes(chosen.hard.sum().to(dtype), least=1)
        soft = chosen.soft_label * raising + (1 - chosen.soft_label) * lowering
        if config.one_to_one:
            paired = F.softplus(chosen.cls_logits).masked_fill(chosen.hard, 0.0) - lowering
        else:
            paired = lowering.masked_fill(~(chosen.hard | chosen.soft), 0.0).neg()
        positive = torch.stack((raising.masked_fill(~chosen.hard, 0.0), soft.masked_fill(~chosen.soft, 0.0)))
        loss_hard, loss_soft = self._means(chosen, positive, hard_count)
        losses = {
            "loss_hard": loss_hard,
            "loss_soft": loss_soft,
            "loss_neg": (1 - config.alpha) * (chosen.dense + paired.sum()) / hard_count,
        }
        if config.giou_scale:
            weight = chosen.soft_label.masked_fill(~chosen.soft, 0.0).masked_fill_(chosen.hard, 1.0)
            mass = mean_over_processes(weight.sum(), least=1)
            losses["loss_giou"] = config.giou_scale * (weight * (1 - chosen.giou)).sum() / mass
        return losses

    def _means(self, chosen: ALASelection, values: Tensor, hard_count: Tensor) -> Tensor:
        """[k] sums of values [k, N] over the number of hard points: of all, or by object and then over the objects."""
        if self.config.mean_over == "points":
            return values.sum(dim=1) / hard_count
        counts = chosen.pairs.sum(chosen.hard.to(values.dtype))
        objects = mean_over_processes((counts > 0).to(values.dtype).sum(), least=1)
        return (chosen.pairs.sums(values) / counts.clamp(min=1)).sum(dim=1) / objects

    def explain(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> Explanation:
        """1 for hard points, xi and 1 - xi for soft ones; quantities: prior, sets, foreground at the points."""
        chosen = self.select(predictions, points, targets, progress)
        soft = torch.where(chosen.soft, chosen.soft_label, 0.0)
        positive = torch.where(chosen.hard, 1.0, soft)
        foreground = predictions.obj_logits.flatten()[chosen.pairs.cell(len(points.xy))].sigmoid()
        quantities = {
            **mean_prior(*self.prior_of(predictions, targets)),
            "hard_per_truth": float(chosen.hard.sum()) / max(1, len(targets)),
            "soft_label": mean_of(chosen.soft_label[chosen.soft]),
            "foreground": mean_of(foreground),
        }
        return Explanation(chosen.pairs, positive, 1 - positive, chosen.log_prior.exp(), quantities)

    def select(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> ALASelection:
        """Qualities of all pairs (Eq. 7) and their sets (Alg. 1)."""
        config, dtype = self.config, predictions.reg.dtype
        pairs, inside = inside_or_nearest_pairs(points, targets)
        cell, labels = pairs.cell(len(points.xy)), pairs.of_truth(targets.labels)
        boxes_xyxy, truths_xyxy = self.all_boxes(predictions, points), targets.boxes_xyxy.to(dtype)
        iou, giou = paired_iou_and_giou(boxes_xyxy, cell, truths_xyxy, pairs.truth)
        located = iou if inside == len(pairs) else torch.cat((iou[:inside], giou[inside:]))
        miss = (1 - located).clamp(min=1e-6)  # infinite slope of the power at 0
        dense, cls_logits = self._dense(predictions, cell, labels)
        log_prior = self.log_prior(predictions, points, targets, pairs)
        log_score = (
            config.cls_power * F.logsigmoid(cls_logits)
            - (1 - config.cls_power) * config.loc_sharpness * miss**config.loc_power
            + F.logsigmoid(predictions.obj_logits.flatten().index_select(0, cell))
        )
        with torch.no_grad():
            log_quality = log_score + log_prior
            keep = torch.nonzero(sole_owner(pairs, log_quality, cell, predictions.obj_logits.numel()))[:, 0]
            pairs, log_quality = pairs.take(keep), log_quality.index_select(0, keep)
            quality = (log_quality - pairs.of_truth(pairs.max(log_quality))).exp()
            hard, soft, soft_label = self._sets(pairs, quality, progress)
        log_prior, cls_logits, giou = (t.index_select(0, keep) for t in (log_prior, cls_logits, giou))
        total = pairs.log_sum_exp(log_prior)
        # The value as printed, the gradient of the normalised prior.
        log_score = log_score.index_select(0, keep) + log_prior - pairs.of_truth(total - total.detach())
        return ALASelection(
            pairs, log_prior.detach(), cls_logits, log_score, giou, quality, hard, soft, soft_label, dense
        )

    def log_prior(self, predictions: Predictions, points: Points, targets: Targets, pairs: Pairs) -> Tensor:
        """[N] log C (Eq. 4); distances from the box's centre in strides."""
        mu, sigma = self.prior_of(predictions, targets)
        from_mu = pairs.from_centre(points, targets, predictions.reg.dtype) - columns_at(mu.t(), pairs.truth)
        return (from_mu / columns_at(sigma.t(), pairs.truth)).square().sum(dim=0) / -2

    def prior_of(self, predictions: Predictions, targets: Targets) -> tuple[Tensor, Tensor]:
        """mu and sigma [G, 2] (x, y) of each truth, in strides."""
        terms = self.prior[targets.labels]
        if predictions.image_terms is not None:
            terms = terms + predictions.image_terms[targets.image, targets.labels]
        return terms[:, :2], self._sigma(terms[:, 2:])

    def _sigma(self, raw: Tensor) -> Tensor:
        """At least the floor, and 1 for a raw value of 0."""
        floor = self.config.sigma_floor
        return floor + F.softplus(raw + math.log(math.expm1(1 - floor)))

    def _sets(self, pairs: Pairs, quality: Tensor, progress: float) -> tuple[Tensor, Tensor, Tensor]:
        """Hard, soft and the soft label of each pair; the sets do not depend on the scale of an object's qualities."""
        hard = pairs.best(quality)
        label = quality * (0.5 * (1 + math.cos(math.pi * progress)))  # Eq. 10
        if self.config.one_to_one:
            return hard, torch.zeros_like(hard), label
        count = pairs.sum(torch.ones_like(quality)).clamp(min=1)
        mean = pairs.sum(quality) / count
        deviation = (pairs.sum((quality - pairs.of_truth(mean)).square()) / count).sqrt()
        hard = hard | (quality >= pairs.of_truth(mean + deviation) - _ROUNDING)
        return hard, ~hard & (quality >= pairs.of_truth(mean - deviation) - _ROUNDING), label

    def _dense(self, predictions: Predictions, cell: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 11 as if no pair were positive, and FL(M+, 0) outside the boxes, without alpha; class logits [N]."""
        obj_logits = predictions.obj_logits.flatten()
        covered = torch.zeros_like(obj_logits, dtype=torch.bool)
        covered[cell] = True
        background = (-obj_logits.detach()).masked_fill_(covered, _CERTAIN)
        at = cell * self.num_classes + labels
        rows, cls_logits = negative_focal_rows(predictions.cls_logits.flatten(0, 1), background, at)
        outside = negative_focal_at(obj_logits).masked_fill(covered, 0.0)
        return rows.sum() + outside.sum(), cls_logits

"""AutoAssign: differentiable label assignment (arXiv 2007.03496v3), as github.com/Megvii-BaseDetection/AutoAssign.

Every point inside a box is positive and negative at once. A centre prior learned per class and the confidence of the
prediction weigh the positives of an object as one bag; the IoU of the predicted box takes weight from the negatives.

Symbols: p ``joint`` = P_cls P_obj P_loc (Eq. 4-6); G ``prior`` (Eq. 8) with ``mu``, ``sigma``; C = e^(p / tau)
(Eq. 9), tau = 1/3; w+ ``positive_weight`` (Eq. 10); f(iou) ``positive_share`` (Eq. 11).

Deviations of the authors' code from the paper (the code is followed):
    * a third loss: #truths / sum of G per image, weight 0.75, which keeps the priors from shrinking (Eq. 12 has two).
    * 0.25 on the positive loss, divided by the number of truths; 0.75 on the negative, divided by the sum of G.
    * the negative term is z^2 (-ln(1 - z)) with z = w- P_cls, not -ln(w- (1 - P_cls)).
Deviations of this file from the code:
    * mu and sigma have one row per class; the code has 80 whatever the data.
    * an image whose boxes hold no point adds 0 to the third loss; the code adds #truths / 1e-12.
    * an image without truths works; the code raises IndexError.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aweigh.train.dense.boxes import paired_iou_and_giou
from aweigh.train.dense.losses import MAX_NEGATIVE_LOG, negative_focal
from aweigh.train.dense.points import Points
from aweigh.train.kernels.cover import covered_cells
from aweigh.train.kernels.overlap import columns_at
from aweigh.train.methods.base import Method, mean_over_processes
from aweigh.train.methods.candidates import Pairs, last_truth_wins
from aweigh.train.methods.explanation import Explanation, mean_prior
from aweigh.train.methods.listing import inside_pairs
from aweigh.train.methods.values import Predictions, Targets

# The authors clamp the denominators of their IoU at the machine precision of float32.
_IOU_EPS = 1.19e-7


@dataclass(frozen=True)
class AutoAssignConfig:
    """Constants of the authors' release.

    Attributes:
        localisation: lambda of P_loc = exp(-lambda (1 - GIoU)).
        sharpness: 1 / tau of the confidence weighting.
        positive_scale, negative_scale, prior_scale: of the three losses.
    """

    localisation: float = 5.0
    sharpness: float = 3.0
    positive_scale: float = 0.25
    negative_scale: float = 0.75
    prior_scale: float = 0.75


@dataclass(frozen=True)
class AutoAssignWeights:
    """What each (point, truth) pair gets, [N]; ``best_iou`` and ``positive_share`` carry no gradient.

    Attributes:
        score: P_cls P_obj.
        positive_weight: w+, sums to 1 over the pairs of a truth.
        best_iou: of the point's predicted box with any truth of the image.
        positive_share: f(iou) scaled to 0..1 per truth; 1 minus it weighs the negative.
        dense: a number, the negative term over all points and classes as if no point were inside a box.
    """

    pairs: Pairs
    labels: Tensor
    prior: Tensor
    score: Tensor
    joint: Tensor
    positive_weight: Tensor
    best_iou: Tensor
    positive_share: Tensor
    dense: Tensor


class AutoAssign(Method):
    name = "autoassign"
    title = "AutoAssign"
    paper = "arXiv 2007.03496v3"
    third_output = "objectness"
    config_class = AutoAssignConfig
    config: AutoAssignConfig
    point_offset = 0.0

    def __init__(self, num_classes: int, config: AutoAssignConfig | None = None) -> None:
        super().__init__(num_classes, config)
        self.mu = nn.Parameter(torch.zeros(num_classes, 2))
        self.sigma = nn.Parameter(torch.ones(num_classes, 2))

    def loss(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> dict[str, Tensor]:
        config = self.config
        weights = self.weigh(predictions, points, targets)
        pairs = weights.pairs
        truths = mean_over_processes(weights.joint.new_full((), float(len(targets))), least=1)
        bag = pairs.sum(weights.positive_weight * weights.joint)
        # An object that holds no point costs the clamp, and moves nothing.
        positive = -(bag.clamp(min=torch.finfo(bag.dtype).tiny).log().clamp(min=-MAX_NEGATIVE_LOG))
        positive = positive.masked_fill(bag <= 0, MAX_NEGATIVE_LOG).sum()

        prior_sums = pairs.sum(weights.prior)
        mass = mean_over_processes(prior_sums.sum(), least=1)
        return {
            "loss_pos": config.positive_scale * positive / truths,
            "loss_neg": config.negative_scale * self._negative(weights, len(points.xy)) / mass,
            "loss_norm": config.prior_scale * self._prior_loss(prior_sums, targets, len(predictions.reg)),
        }

    def explain(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> Explanation:
        """w+ (1 in all for each truth) and 1 - f(iou); quantities: the learned prior of the truths' classes."""
        weights = self.weigh(predictions, points, targets)
        quantities = mean_prior(self.mu[targets.labels], self.sigma[targets.labels])
        return Explanation(
            weights.pairs, weights.positive_weight, 1 - weights.positive_share, weights.prior, quantities
        )

    def weigh(self, predictions: Predictions, points: Points, targets: Targets) -> AutoAssignWeights:
        """Positive weights and shares of all pairs (Sec. 3.2-3.3)."""
        config, dtype = self.config, predictions.reg.dtype
        pairs = inside_pairs(points, targets)
        cell, labels = pairs.cell(len(points.xy)), pairs.of_truth(targets.labels)
        prior = self._prior(pairs, points, targets, dtype)
        boxes_xyxy, truths_xyxy = self.all_boxes(predictions, points), targets.boxes_xyxy.to(dtype)
        _, giou = paired_iou_and_giou(boxes_xyxy, cell, truths_xyxy, pairs.truth, eps=_IOU_EPS)
        dense, cls_logits, obj_logits = predictions.negatives(cell, labels)
        score = cls_logits.sigmoid() * obj_logits.sigmoid()
        joint = score * (-config.localisation * (1 - giou)).exp()
        confidence = (config.sharpness * joint).exp() * prior  # Eq. 9
        positive_weight = confidence / pairs.of_truth(pairs.sum(confidence).clamp(min=1e-12))  # Eq. 10
        with torch.no_grad():
            best = best_iou(boxes_xyxy, cell, points, targets)
            rise = 1 / (1 - best).clamp(min=1e-12)  # Eq. 11
            low, high = pairs.of_truth(pairs.min(rise)), pairs.of_truth(pairs.max(rise))
            share = (rise - low + 1e-12) / (high - low + 1e-12)
        return AutoAssignWeights(pairs, labels, prior, score, joint, positive_weight, best, share, dense)

    def _prior(self, pairs: Pairs, points: Points, targets: Targets, dtype: torch.dtype) -> Tensor:
        """[N] G (Eq. 8)."""
        mu, width = (t.index_select(0, targets.labels) for t in (self.mu, 2 * self.sigma.square()))
        from_mu = pairs.from_centre(points, targets, dtype) - columns_at(mu.t(), pairs.truth)
        return (-(from_mu.square() / columns_at(width.t(), pairs.truth)).sum(dim=0)).exp()

    def _negative(self, weights: AutoAssignWeights, num_points: int) -> Tensor:
        """Sum of z^2 (-ln(1 - z)), z = s (1 - positive share), over all points and classes."""
        writes = last_truth_wins(weights.pairs, weights.labels, num_points, self.num_classes)
        score = weights.score
        change = negative_focal(score * (1 - weights.positive_share)) - negative_focal(score)
        return weights.dense + change.masked_fill(~writes, 0.0).sum()

    def _prior_loss(self, prior_sums: Tensor, targets: Targets, images: int) -> Tensor:
        """Mean over the images of #truths / sum of G."""
        mass = prior_sums.new_zeros(images).index_add(0, targets.image, prior_sums)
        count = torch.zeros_like(mass).index_add_(0, targets.image, torch.ones_like(prior_sums))
        held = mass > 1e-12
        images_each = mean_over_processes(mass.new_full((), float(images)), least=1)
        return (count.masked_fill_(~held, 0.0) / mass.masked_fill(~held, 1.0)).sum() / images_each


@torch.no_grad()
def best_iou(boxes_xyxy: Tensor, cell: Tensor, points: Points, targets: Targets) -> Tensor:
    """[N] highest IoU of the predicted boxes of some cells with any truth of their image.

    Args:
        boxes_xyxy: [B * P, 4] of all cells.
        cell: [N] int64; may repeat.
    """
    counts = targets.per_image()
    counts += (0,) * (len(boxes_xyxy) // len(points.xy) - len(counts))
    truths_xyxy = targets.boxes_xyxy.to(boxes_xyxy.dtype)
    return covered_cells(boxes_xyxy, cell, truths_xyxy, counts, points.xy, points.stride, _IOU_EPS)  # type: ignore[no-any-return]

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

from aweigh.train.boxes import iou, iou_and_giou
from aweigh.train.losses import MAX_NEGATIVE_LOG, negative_focal, negative_focal_sum
from aweigh.train.methods.base import Method, Predictions, Targets, mean_over_processes
from aweigh.train.methods.candidates import Pairs, inside_pairs, last_truth_wins
from aweigh.train.points import Points

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
    """What each (point, truth) pair gets, [N]; ``prior``, ``joint`` and ``positive_weight`` carry gradients.

    Attributes:
        positive_weight: w+, sums to 1 over the pairs of a truth.
        best_iou: of the point's predicted box with any truth of the image.
        positive_share: f(iou) scaled to 0..1 per truth; 1 minus it weighs the negative.
    """

    pairs: Pairs
    labels: Tensor
    prior: Tensor
    joint: Tensor
    positive_weight: Tensor
    best_iou: Tensor
    positive_share: Tensor


class AutoAssign(Method):
    name = "autoassign"
    point_offset = 0.0

    def __init__(self, num_classes: int, config: AutoAssignConfig | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.config = config or AutoAssignConfig()
        self.mu = nn.Parameter(torch.zeros(num_classes, 2))
        self.sigma = nn.Parameter(torch.ones(num_classes, 2))

    def loss(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> dict[str, Tensor]:
        config = self.config
        weights = self.weigh(predictions, points, targets)
        pairs = weights.pairs
        truths = mean_over_processes(weights.joint.new_tensor(float(len(targets)))).clamp(min=1)
        bag = pairs.sum(weights.positive_weight * weights.joint)
        # An object that holds no point costs the clamp, and moves nothing.
        positive = -(bag.clamp(min=torch.finfo(bag.dtype).tiny).log().clamp(min=-MAX_NEGATIVE_LOG))
        positive = torch.where(bag > 0, positive, MAX_NEGATIVE_LOG).sum()

        prior_sums = pairs.sum(weights.prior)
        mass = mean_over_processes(prior_sums.sum()).clamp(min=1)
        return {
            "loss_pos": config.positive_scale * positive / truths,
            "loss_neg": config.negative_scale * self._negative(predictions, weights) / mass,
            "loss_norm": config.prior_scale * self._prior_loss(prior_sums, targets, len(predictions.reg)),
        }

    def weigh(self, predictions: Predictions, points: Points, targets: Targets) -> AutoAssignWeights:
        """Positive weights and shares of all pairs (Sec. 3.2-3.3)."""
        config, dtype = self.config, predictions.reg.dtype
        pairs = inside_pairs(points, targets)
        labels = targets.labels[pairs.truth]
        truth_boxes = targets.boxes_xyxy.to(dtype)[pairs.truth]
        points_xy = points.xy[pairs.point].to(dtype)
        centre = (truth_boxes[:, :2] + truth_boxes[:, 2:]) / 2
        distance = (points_xy - centre) / points.stride[pairs.point, None].to(dtype)
        offset = (distance - self.mu[labels]).square() / (2 * self.sigma[labels].square())
        prior = (-offset.sum(dim=1)).exp()  # Eq. 8

        boxes_xyxy = self.boxes_at(predictions, points, pairs.image, pairs.point)
        _, giou = iou_and_giou(boxes_xyxy, truth_boxes, eps=_IOU_EPS)
        joint = (
            predictions.cls_at(pairs.image, pairs.point, labels).sigmoid()
            * predictions.obj_at(pairs.image, pairs.point).sigmoid()
            * (-config.localisation * (1 - giou)).exp()
        )
        confidence = (config.sharpness * joint).exp() * prior  # Eq. 9
        positive_weight = confidence / pairs.sum(confidence).clamp(min=1e-12)[pairs.truth]  # Eq. 10
        with torch.no_grad():
            best = best_iou(boxes_xyxy, pairs, targets, len(points.xy))
            rise = 1 / (1 - best).clamp(min=1e-12)  # Eq. 11
            low, high = pairs.min(rise)[pairs.truth], pairs.max(rise)[pairs.truth]
            share = (rise - low + 1e-12) / (high - low + 1e-12)
        return AutoAssignWeights(pairs, labels, prior, joint, positive_weight, best, share)

    def _negative(self, predictions: Predictions, weights: AutoAssignWeights) -> Tensor:
        """Sum of z^2 (-ln(1 - z)), z = s (1 - positive share), over all points and classes."""
        image, point, labels = weights.pairs.image, weights.pairs.point, weights.labels
        cls_logits = predictions.cls_at(image, point, labels)
        joint = cls_logits.sigmoid() * predictions.obj_at(image, point).sigmoid()
        writes = last_truth_wins(weights.pairs, labels, predictions.cls_logits.shape[1], self.num_classes)
        change = negative_focal(joint * (1 - weights.positive_share)) - negative_focal(joint)
        dense = negative_focal_sum(predictions.cls_logits.flatten(0, 1), predictions.obj_logits.flatten())
        return dense + torch.where(writes, change, 0.0).sum()

    def _prior_loss(self, prior_sums: Tensor, targets: Targets, images: int) -> Tensor:
        """Mean over the images of #truths / sum of G."""
        mass = prior_sums.new_zeros(images).index_add(0, targets.image, prior_sums)
        count = torch.bincount(targets.image, minlength=images).to(mass.dtype)
        held = mass > 1e-12
        return torch.where(held, count / torch.where(held, mass, 1.0), 0.0).sum() / images


@torch.no_grad()
def best_iou(boxes_xyxy: Tensor, pairs: Pairs, targets: Targets, num_points: int) -> Tensor:
    """[N] highest IoU of the predicted box of each pair's point with any truth of its image.

    Args:
        boxes_xyxy: [N, 4] predicted box of each pair's point.
    """
    cell = pairs.image * num_points + pairs.point
    unique, inverse = torch.unique(cell, return_inverse=True)
    first = torch.full_like(unique, len(cell)).scatter_reduce(
        0, inverse, torch.arange(len(cell), device=cell.device), "amin"
    )
    boxes, image = boxes_xyxy[first], pairs.image[first]
    best = boxes.new_zeros(len(unique))
    for b in torch.unique(image).tolist():
        mine = image == b
        truths = targets.boxes_xyxy[targets.image == b].to(boxes.dtype)
        # A slice of points at a time: cost follows the points inside boxes, memory does not.
        parts = [iou(part[:, None], truths, eps=_IOU_EPS).amax(dim=1) for part in torch.split(boxes[mine], 2048)]
        best[mine] = torch.cat(parts)
    return best[inverse]

"""A method in one file, for the tests that add it: each object is taught by the point nearest to its centre."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from aweigh.train.dense.boxes import paired_iou_and_giou
from aweigh.train.dense.losses import focal_sum
from aweigh.train.dense.points import Points
from aweigh.train.methods.base import Method, MethodFlag, mean_over_processes
from aweigh.train.methods.explanation import Explanation, ones
from aweigh.train.methods.listing import nearest_pairs
from aweigh.train.methods.values import Predictions, Targets


@dataclass(frozen=True)
class ToyConfig:
    """``alpha``: of the focal loss; ``taught``: whether boxes are taught by their GIoU or by their IoU."""

    alpha: float = 0.25
    taught: Literal["giou", "iou"] = "giou"


class Toy(Method):
    name = "toy"
    title = "Toy"
    paper = "none"
    third_output = "toy centerness"
    config_class = ToyConfig
    config: ToyConfig
    flags = (MethodFlag("--toy-taught", "taught", "what teaches the toy's boxes", choices=("giou", "iou")),)

    def loss(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> dict[str, Tensor]:
        pairs = nearest_pairs(points, targets)
        cell, labels = pairs.cell(len(points.xy)), pairs.of_truth(targets.labels)
        boxes_xyxy = self.all_boxes(predictions, points)
        iou, giou = paired_iou_and_giou(boxes_xyxy, cell, targets.boxes_xyxy.to(boxes_xyxy.dtype), pairs.truth)
        positives = mean_over_processes(giou.new_tensor(float(len(pairs))), least=1)
        taught = giou if self.config.taught == "giou" else iou
        obj_logits = predictions.obj_logits.flatten().index_select(0, cell)
        return {
            "loss_cls": focal_sum(predictions.cls_logits.flatten(0, 1), cell, labels, self.config.alpha) / positives,
            "loss_bbox": (1 - taught).sum() / positives,
            "loss_obj": F.softplus(-obj_logits).sum() / positives,
        }

    def explain(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> Explanation:
        pairs = nearest_pairs(points, targets)
        return Explanation(pairs, ones(pairs), 0 * ones(pairs), None)

"""The plain way: eager PyTorch and post-processing in Python loops, as an engineer writes it who has a checkpoint.

What it finds is what the exported file finds; benchmarks/plain.py holds the two against each other before it times
them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from aweigh.runtime.agreement.match import ScoredBoxes
from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import Placement, prepare
from aweigh.runtime.spec import PostSpec
from aweigh.train.checkpoint import Checkpoint
from aweigh.train.dense.postprocess import Dense
from aweigh.train.models.detector import DenseDetector


class PlainDetector:
    """A checkpoint in eager float32; one picture per call."""

    def __init__(self, checkpoint: Checkpoint, post: PostSpec, size_hw: tuple[int, int] | None = None) -> None:
        self.spec = checkpoint.spec
        self.input = replace(self.spec.input, size_hw=size_hw or self.spec.input.size_hw)
        self.post = post
        self.network: DenseDetector = checkpoint.detector()
        self.ids = np.array([category.id for category in self.spec.categories], np.int64)

    @torch.inference_mode()
    def __call__(self, path: Path) -> ScoredBoxes:
        """boxes_xyxy [N, 4] in pixels of the image, scores [N], category ids [N], best first."""
        dense, where = self._dense(path)
        boxes, scores, labels = postprocess(dense, self.post)
        return ScoredBoxes(where.unmap(boxes.numpy()), scores.numpy(), self.ids[labels.numpy()])

    @torch.inference_mode()
    def candidates(self, path: Path) -> int:
        """How many (point, class) pairs the loops have to go through."""
        return len(_candidates(self._dense(path)[0], self.post)[1])

    def _dense(self, path: Path) -> tuple[Dense, Placement]:
        image_bgr = cv2.imread(str(path))
        if image_bgr is None:
            raise BadInput(f"{path}: OpenCV reads no picture from it")
        image_u8, where = prepare(np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8), self.input)
        return self.network.dense(torch.from_numpy(image_u8)[None]), where


def postprocess(dense: Dense, post: PostSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Of one picture: threshold, best of each level, NMS class by class, voting, best of all."""
    boxes, scores, labels = _candidates(dense, post)
    kept_boxes, kept_scores, kept_labels = [], [], []
    for label in labels.unique().tolist():  # type: ignore[no-untyped-call]
        mine = labels == label
        class_boxes, class_scores = boxes[mine], scores[mine]
        keep = _nms(class_boxes, class_scores, post) if post.kind != "none" else list(range(len(class_scores)))
        for i in keep:
            box = _vote(class_boxes[i], class_boxes, class_scores, post) if post.kind == "vote" else class_boxes[i]
            kept_boxes.append(box)
            kept_scores.append(class_scores[i])
            kept_labels.append(label)
    if not kept_boxes:
        return torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    best, order = torch.stack(kept_scores).sort(descending=True, stable=True)
    order = order[: post.max_det]
    return torch.stack(kept_boxes)[order], best[: post.max_det], torch.tensor(kept_labels)[order]


def _candidates(dense: Dense, post: PostSpec) -> tuple[Tensor, Tensor, Tensor]:
    foreign = post.top_k_unit == "level-points" or post.top_k_by != "score" or post.clip_when != "before-nms"
    if foreign or post.drop_empty:
        raise ValueError(f"post-processing of imported weights, which the plain way does not know: {post}")
    scores, gate = dense.scores[0], dense.class_probability[0]
    gate = gate if post.threshold_gates == "class-probability" else scores
    sizes = dense.level_sizes if post.top_k_unit == "level-pairs" else [len(scores)]
    boxes, kept, labels, first = [], [], [], 0
    for size in sizes:
        level = slice(first, first + size)
        point, label = torch.nonzero(gate[level] > post.score_threshold, as_tuple=True)
        value = scores[level][point, label]
        value, order = value.sort(descending=True)
        order = order[: post.pre_nms_top_k]
        boxes.append(dense.boxes_xyxy[0, level][point[order]])
        kept.append(value[: post.pre_nms_top_k])
        labels.append(label[order])
        first += size
    return _clipped(torch.cat(boxes), dense.size_hw, post), torch.cat(kept), torch.cat(labels)


def _clipped(boxes: Tensor, size_hw: tuple[int, int], post: PostSpec) -> Tensor:
    if post.clip == "none":
        return boxes
    less = 1 if post.clip == "size-minus-one" else 0
    height, width = size_hw
    limits = torch.tensor([width - less, height - less, width - less, height - less])
    return boxes.clamp(min=0).minimum(limits)


def _nms(boxes: Tensor, scores: Tensor, post: PostSpec) -> list[int]:
    """Greedy, best first."""
    order = scores.argsort(descending=True, stable=True)
    keep: list[int] = []
    while len(order):
        best = int(order[0])
        keep.append(best)
        rest = order[1:]
        order = rest[_iou(boxes[best], boxes[rest], post) <= post.iou_threshold]
    return keep


def _vote(box: Tensor, boxes: Tensor, scores: Tensor, post: PostSpec) -> Tensor:
    """The kept box as the mean of its candidates, weighted by score and nearness (PAA, Eq. 9 and 10)."""
    overlap = _iou(box, boxes, post)
    near = overlap > post.vote_min_iou
    weight = torch.exp(-((1 - overlap[near]) ** 2) / post.vote_sigma) * scores[near]
    return (weight[:, None] * boxes[near]).sum(dim=0) / weight.sum()


def _iou(box: Tensor, boxes: Tensor, post: PostSpec) -> Tensor:
    extra = 1.0 if post.iou_convention == "plus-one" else 0.0
    low, high = torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:], boxes[:, 2:])
    overlap = (high - low + extra).clamp(min=0).prod(dim=1)
    areas = (boxes[:, 2:] - boxes[:, :2] + extra).prod(dim=1)
    return overlap / ((box[2:] - box[:2] + extra).prod() + areas - overlap)

"""The seam between a label-assignment method and everything else: the loss.

A method is a module that says which branches the head needs, how their outputs read as boxes and ranking scores, and
what the loss of a batch is. It is not "assign labels": AutoAssign is a bag loss, DW weighs positives and negatives
apart.

Legend for all shapes: B images, P points over all levels, C classes, G truths of the batch, N (point, truth) pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from aweigh.runtime.spec import PostSpec
from aweigh.train.dense.boxes import ltrb_to_xyxy, xyxy_to_ltrb
from aweigh.train.dense.losses import negative_focal_rows
from aweigh.train.dense.points import Points

if TYPE_CHECKING:
    from aweigh.train.methods.explanation import Explanation

Maps = dict[str, Tensor]


@dataclass(frozen=True)
class Branch:
    """One output of the head.

    Attributes:
        name: key in the maps of a level.
        channels: per point; 0 means one per class.
        tower: the tower it sits on; ``pyramid`` for a map that the method makes itself (:meth:`Method.pyramid_maps`).
        extra_convs: conv-GN-ReLU of a quarter of the tower's width between tower and output (O2F).
        bias: initial bias of the output convolution.
        scaled: multiplied by one learned scalar per level.
    """

    name: str
    channels: int
    tower: Literal["cls", "reg", "pyramid"]
    extra_convs: int = 0
    bias: float = 0.0
    scaled: bool = False


@dataclass(frozen=True)
class Predictions:
    """The head's outputs over all levels, level-major.

    Attributes:
        cls_logits: [B, P, C].
        reg: [B, P, 4], in the method's box coding: distances ltrb in pixels unless the method says otherwise.
        obj_logits: [B, P], objectness, centerness or IoU, as the method calls it.
        image_terms: [B, ...], what a method reads off the whole picture; None where it reads nothing.
    """

    cls_logits: Tensor
    reg: Tensor
    obj_logits: Tensor
    image_terms: Tensor | None = None

    def negatives(self, cell: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of the dense negative term over s = sigmoid(cls) sigmoid(obj), and logits of single points.

        Args:
            cell: [N] int64, image * P + point; may repeat.
            labels: [N] class of interest at each.

        Returns:
            The sum, and [N] class and objectness logits (:func:`negative_focal_rows` says why together).
        """
        obj_logits = self.obj_logits.flatten()
        at = cell * self.cls_logits.shape[2] + labels
        rows, cls_at = negative_focal_rows(self.cls_logits.flatten(0, 1), obj_logits, at)
        return rows.sum(), cls_at, obj_logits.index_select(0, cell)

    def joint_at(self, cell: Tensor, labels: Tensor) -> Tensor:
        """[N] sigmoid(cls) sigmoid(obj) of single points, without gradient."""
        cls_logits = self.cls_logits.detach().flatten().index_select(0, cell * self.cls_logits.shape[2] + labels)
        return cls_logits.sigmoid() * self.obj_logits.detach().flatten().index_select(0, cell).sigmoid()


@dataclass(frozen=True)
class Targets:
    """The truths of a batch, joined.

    Attributes:
        boxes_xyxy: [G, 4] pixels of the network input.
        labels: [G] int64, 0 to C-1.
        image: [G] int64, 0 to B-1, ascending.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    image: Tensor

    @classmethod
    def join(cls, boxes_xyxy: Sequence[Tensor], labels: Sequence[Tensor]) -> Targets:
        """From one tensor of boxes [Gi, 4] and of labels [Gi] per image; an image may have none."""
        counts = torch.tensor([len(b) for b in boxes_xyxy], device=boxes_xyxy[0].device)
        image = torch.repeat_interleave(torch.arange(len(boxes_xyxy), device=counts.device), counts)
        return cls(torch.cat([b.reshape(-1, 4) for b in boxes_xyxy]), torch.cat(list(labels)).long(), image)

    def __len__(self) -> int:
        return len(self.labels)


class Method(nn.Module, ABC):
    """Base of all methods.

    Attributes:
        name: as on the command line.
        one_to_one: whether one detection per object comes out without NMS.
        point_offset: place of the points in their cells.
        threshold_gates: what the score threshold looks at (PostSpec).
        config: the method's constants, a frozen dataclass.
    """

    name: str
    one_to_one: bool = False
    point_offset: float = 0.5
    threshold_gates: Literal["score", "class-probability"] = "score"
    config: Any

    def branches(self) -> tuple[Branch, ...]:
        """The head's outputs; ``cls``, ``reg`` and ``obj`` are always among them.

        The regression starts at a bias of 4: boxes of eight strides, where relu has a slope.
        """
        return (
            Branch("cls", 0, "cls"),
            Branch("reg", 4, "reg", bias=4.0, scaled=True),
            Branch("obj", 1, "reg"),
        )

    def build(self, channels: int) -> None:
        """Make the modules that read the pyramid's features of so many channels; the detector calls it once."""

    def pyramid_maps(self, features: Sequence[Tensor]) -> list[Maps]:
        """Maps of each level that come from the pyramid, past the head."""
        return [{} for _ in features]

    @abstractmethod
    def explain(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> Explanation:
        """What :meth:`loss` gives to which pairs; called without gradient."""

    @abstractmethod
    def loss(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> dict[str, Tensor]:
        """Loss terms of the batch, to be summed. ``progress`` runs from 0 to 1 over the training."""

    def all_boxes(self, predictions: Predictions, points: Points) -> Tensor:
        """Predicted boxes [B * P, 4] of all points, image by image."""
        dtype = predictions.reg.dtype
        return self.boxes(predictions.reg, points.xy.to(dtype), points.stride.to(dtype)).flatten(0, 1)

    def predictions(self, maps: Sequence[Maps], points: Points) -> Predictions:
        """Read the maps [B, c, rows, columns] of all levels; regression is relu(raw) * stride, in pixels."""
        reg = [self.distances_px(level, points, i) for i, level in enumerate(maps)]
        return Predictions(
            torch.cat([at_least_float32(rows_of(level["cls"])) for level in maps], dim=1),
            torch.cat([rows_of(r) for r in reg], dim=1),
            torch.cat([at_least_float32(rows_of(level["obj"]))[..., 0] for level in maps], dim=1),
        )

    def distances_px(self, maps: Maps, points: Points, level: int) -> Tensor:
        """[B, 4, rows, columns] ltrb in pixels of one level."""
        return at_least_float32(maps["reg"]).relu() * points.strides[level]

    def boxes(self, reg: Tensor, points_xy: Tensor, stride: Tensor) -> Tensor:
        """Corner boxes [..., 4] in pixels from the regression [..., 4] at points [..., 2] of strides [...]."""
        return ltrb_to_xyxy(points_xy, reg)

    def encode(self, boxes_xyxy: Tensor, points_xy: Tensor, stride: Tensor) -> Tensor:
        """The inverse of :meth:`boxes`: the regression [..., 4] that reads as corner boxes [..., 4]."""
        return xyxy_to_ltrb(points_xy, boxes_xyxy)

    def scores(self, predictions: Predictions) -> Tensor:
        """Ranking score [B, P, C], 0 to 1: class probability times objectness."""
        return predictions.cls_logits.sigmoid() * predictions.obj_logits.sigmoid()[..., None]

    def post(self) -> PostSpec:
        """The method's own post-processing."""
        if self.one_to_one:
            return PostSpec(kind="none", top_k_unit="image-pairs", threshold_gates=self.threshold_gates)
        return PostSpec(kind="nms", nms_form="onnx", top_k_unit="image-pairs", threshold_gates=self.threshold_gates)


def rows_of(level_map: Tensor) -> Tensor:
    """[B, c, rows, columns] as [B, rows * columns, c]."""
    return level_map.permute(0, 2, 3, 1).flatten(1, 2)


def mean_over_processes(value: Tensor, least: float) -> Tensor:
    """A normaliser counted on this process as its mean over all processes, their sum being ``least`` or more.

    Gradients are averaged over processes afterwards, so that dividing by the mean equals one process that saw the
    joined batch and divided by the sum.
    """
    value, processes = value.detach(), 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        value, processes = value.clone(), torch.distributed.get_world_size()
        torch.distributed.all_reduce(value)
    return value.clamp(min=least) / processes


def at_least_float32(value: Tensor) -> Tensor:
    """What the network gives in half precision as float32; float32 and float64 as they are."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value

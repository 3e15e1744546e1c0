"""The values that pass between the head, a method and its loss.

Legend for all shapes: B images, P points over all levels, C classes, G ground-truth objects of the batch,
N (point, object) pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aweigh.train.dense.losses import negative_focal_rows
from aweigh.train.kernels.transfer import on_device

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
        reg: [B, P, 4], in the method's box coding: distances (left, top, right, bottom) in pixels for most methods.
        obj_logits: [B, P], objectness, centerness or IoU, as the method calls it.
        image_terms: [B, ...], what a method predicts for the whole image; None for most methods.
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
            The sum, and [N] class and objectness logits (:func:`negative_focal_rows` explains why together).
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
    """The ground truth of a batch, all images joined.

    Attributes:
        boxes_xyxy: [G, 4] pixels of the network input.
        labels: [G] int64, 0 to C-1.
        image: [G] int64, 0 to B-1, ascending.
        counts: number of objects of each image, where the host knows it: sizes that come from it need no waiting for
            a GPU.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    image: Tensor
    counts: tuple[int, ...] | None = None

    @classmethod
    def join(
        cls, boxes_xyxy: Sequence[Tensor], labels: Sequence[Tensor], device: torch.device | None = None
    ) -> Targets:
        """From one tensor of boxes [Gi, 4] and of labels [Gi] per image; an image may have none.

        Args:
            device: where the joined tensors go, without waiting; None for where they are.
        """
        counts = tuple(len(b) for b in boxes_xyxy)
        boxes, classes = torch.cat([b.reshape(-1, 4) for b in boxes_xyxy]), torch.cat(list(labels)).long()
        image = np.arange(len(counts)).repeat(counts)
        device = boxes.device if device is None else device
        joined = cls(
            on_device(boxes, device), on_device(classes, device), on_device(torch.from_numpy(image), device), counts
        )
        if boxes.device.type == "cpu":
            joined.__dict__["on_host"] = (np.from_dlpack(boxes.detach()), image)  # nothing will be fetched
        return joined

    @cached_property
    def on_host(self) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.int64]]:
        """``boxes_xyxy`` and ``image`` in the host's memory; a GPU that holds the only copy is waited for, once."""
        return self.boxes_xyxy.detach().cpu().numpy(), self.image.cpu().numpy()

    def per_image(self) -> tuple[int, ...]:
        """``counts``, or the same read off ``image`` (without images after the last one that has an object)."""
        return tuple(np.bincount(self.on_host[1]).tolist()) if self.counts is None else self.counts

    def __len__(self) -> int:
        return len(self.labels)


def rows_of(level_map: Tensor) -> Tensor:
    """[B, c, rows, columns] as [B, rows * columns, c]."""
    return level_map.permute(0, 2, 3, 1).flatten(1, 2)


def at_least_float32(value: Tensor) -> Tensor:
    """Half precision raised to float32; float32 and float64 unchanged."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value

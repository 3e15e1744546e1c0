"""The seam between a label-assignment method and everything else: the loss.

A method is a module that says which branches the head needs, how their outputs read as boxes and ranking scores, and
what the loss of a batch is. It is not "assign labels": AutoAssign is a bag loss, DW weighs positives and negatives
apart.

Shapes: see ``values``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from aweigh.runtime.spec import PostSpec
from aweigh.train.dense.boxes import ltrb_to_xyxy, xyxy_to_ltrb
from aweigh.train.dense.points import Points
from aweigh.train.methods.explanation import Explanation
from aweigh.train.methods.values import Branch, Maps, Predictions, Targets, at_least_float32, rows_of


@dataclass(frozen=True)
class MethodFlag:
    """A flag of ``aweigh train`` that sets one option of one method; all other options are set by recipe.

    Attributes:
        flag: as on the command line, ``--no-refine``.
        option: the field of the method's config that it sets.
        help: one line for ``aweigh train --help``.
        value: what the option becomes; unused where there are ``choices``.
        choices: values that the user chooses from; empty for a flag without a value.
    """

    flag: str
    option: str
    help: str
    value: bool | str = True
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChosenOptions:
    """Options of a method that follow from the data, and in one line why."""

    options: Mapping[str, int] = field(default_factory=dict)
    why: str = ""


class Method(nn.Module, ABC):
    """Base of all methods: what the rest of the program knows of a method stands in its class.

    Args:
        num_classes: C, at least 1.
        config: an instance of ``config_class``; None for its defaults.

    Attributes:
        name: its key in ``METHODS``, as on the command line and in checkpoints.
        title: as its authors write it, for tables and pages.
        paper: where it is published.
        third_output: what the output ``obj``, the third after classes and boxes, predicts.
        flags: flags of ``aweigh train`` of its own.
        config_class: frozen dataclass of its constants; ``config``: this instance's.
        one_to_one: whether one detection per object comes out without NMS.
        point_offset: position of the points in their cells, 0 (corner) to 0.5 (centre).
        threshold_gates: what the score threshold is compared with, see ``PostSpec``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    third_output: ClassVar[str] = "objectness"
    flags: ClassVar[tuple[MethodFlag, ...]] = ()
    config_class: ClassVar[type[Any]]
    config: Any
    one_to_one: bool = False
    point_offset: float = 0.5
    threshold_gates: Literal["score", "class-probability"] = "score"

    def __init__(self, num_classes: int, config: Any = None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.config = self.config_class() if config is None else config

    @classmethod
    def options_of(cls, branches: Mapping[str, int]) -> dict[str, bool | int]:
        """The options that stored weights reveal, for ``aweigh import``.

        Args:
            branches: the head's outputs in the file, by name, with the number of extra convolutions of each.
        """
        return {}

    @classmethod
    def options_for(
        cls, sizes_px: npt.NDArray[np.floating[Any]], strides: Sequence[int], given: Mapping[str, Any]
    ) -> ChosenOptions:
        """Options that follow from the boxes to be learned; none for most methods.

        Args:
            sizes_px: [N, 2] width and height of the training split's boxes, in pixels of the network input.
            strides: of the levels, pixels of the network input.
            given: the recipe's options, which are never replaced.
        """
        return ChosenOptions()

    def unsuited(self, sizes_px: npt.NDArray[np.floating[Any]], strides: Sequence[int]) -> npt.NDArray[np.bool_]:
        """[N] boxes whose size this method hardly learns, beyond those that hold no point; none for most methods.

        ``sizes_px`` and ``strides`` as for :meth:`options_for`.
        """
        return np.zeros(len(sizes_px), np.bool_)

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
        """The weights that :meth:`loss` gives to (point, object) pairs.

        Called without gradient, with the arguments of :meth:`loss`.
        """

    @abstractmethod
    def loss(self, predictions: Predictions, points: Points, targets: Targets, progress: float) -> dict[str, Tensor]:
        """Loss terms of the batch, by name (``loss_cls``): scalars with gradient, to be summed.

        Args:
            predictions: of the whole batch on this process, see :meth:`predictions`.
            points: where they are predicted.
            targets: the ground truth of the batch, in pixels of the network input; an image may have none.
            progress: of the training, 0 at the first iteration to 1 at the last.
        """

    def all_boxes(self, predictions: Predictions, points: Points) -> Tensor:
        """Predicted boxes [B * P, 4] of all points, image by image."""
        dtype = predictions.reg.dtype
        return self.boxes(predictions.reg, points.xy.to(dtype), points.stride.to(dtype)).flatten(0, 1)

    def predictions(self, maps: Sequence[Maps], points: Points) -> Predictions:
        """Read the maps [B, c, rows, columns] of all levels; regression is relu(raw) * stride, in pixels."""
        return Predictions(
            torch.cat([at_least_float32(rows_of(level["cls"])) for level in maps], dim=1),
            self.regression_px(maps, points),
            torch.cat([at_least_float32(rows_of(level["obj"]))[..., 0] for level in maps], dim=1),
        )

    def regression_px(self, maps: Sequence[Maps], points: Points) -> Tensor:
        """[B, P, 4] ltrb in pixels of all levels."""
        reg = [self.distances_px(level, points, i) for i, level in enumerate(maps)]
        return torch.cat([rows_of(r) for r in reg], dim=1)

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


def mean_over_processes(value: Tensor, least: float) -> Tensor:
    """A normaliser counted on this process as its mean over all processes, their sum being ``least`` or more.

    Gradients are averaged over processes afterwards, so that dividing by the mean equals one process that saw the
    joined batch and divided by the sum.
    """
    value, processes = value.detach(), 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        value, processes = value.clone(), torch.distributed.get_world_size()
        torch.distributed.all_reduce(value)
    value = value.clamp(min=least)
    return value if processes == 1 else value / processes

"""The detector: normalisation, backbone, pyramid, head and method as one module."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import InputSpec
from aweigh.runtime.values import build
from aweigh.train.dense.points import Points, make_points
from aweigh.train.dense.postprocess import Dense
from aweigh.train.methods import make_method
from aweigh.train.methods.base import Method
from aweigh.train.methods.values import Maps, Predictions
from aweigh.train.models import efficientnet, swin
from aweigh.train.models.fpn import FPN
from aweigh.train.models.head import Head
from aweigh.train.models.resnet import BLOCKS, ResNet
from aweigh.train.models.tood import TaskAlignedHead


@dataclass(frozen=True)
class Architecture:
    """Sizes of a network.

    Attributes:
        backbone: a ResNet (with its variants), a Swin transformer or an EfficientNet-Lite.
        depth, width: of the backbone; the depth of a Swin and of a Lite is its number of blocks, the width of a Lite
            is in hundredths of Lite0's.
        light_stem: of the ResNet.
        channels: of pyramid and head.
        convs: per tower of the head.
        groups, base_width, stride_in_1x1, deform_stages: of the ResNet.
        p6_from, p7_relu: of the pyramid.
        head: FCOS's, or TOOD's task-aligned one, whose shared stack has the ``convs``.
        tower_bias, gn_groups, deform_head: of the head.
        imgsz: longer side of the network input that suits it, pixels; used where the user names none.
    """

    depth: int
    width: int = 64
    light_stem: bool = False
    channels: int = 256
    convs: int = 4
    imgsz: int = 640
    groups: int = 1
    base_width: int = 64
    stride_in_1x1: bool = False
    deform_stages: tuple[int, ...] = ()
    p6_from: Literal["p5", "c5"] = "p5"
    p7_relu: bool = True
    tower_bias: bool = False
    gn_groups: int = 0
    deform_head: bool = False
    backbone: Literal["resnet", "swin", "lite"] = "resnet"
    head: Literal["fcos", "tood"] = "fcos"


_OF_RESNET = ("light_stem", "groups", "base_width", "stride_in_1x1", "deform_stages")
ARCHITECTURES = {
    "nano": Architecture(10, width=32, light_stem=True, channels=48, convs=2, imgsz=256),
    "r10": Architecture(10, channels=96, convs=2, imgsz=320),
    "r18": Architecture(18, channels=128, convs=2, imgsz=384),
    "r34": Architecture(34, channels=128, convs=2, imgsz=512),
    "r50": Architecture(50, imgsz=1024),
    "r101": Architecture(101, imgsz=1024),
    "r152": Architecture(152, imgsz=1024),
    "x101-64x4d": Architecture(101, groups=64, base_width=4, imgsz=1024),
    "x152-32x8d": Architecture(152, groups=32, base_width=8, imgsz=1024),
}
ARCHITECTURES |= {
    f"{name}-dcn": replace(size, deform_stages=(2, 3, 4), deform_head=True)
    for name, size in ARCHITECTURES.items()
    if BLOCKS[size.depth][0]
}
ARCHITECTURES["lite0"] = Architecture(16, width=100, backbone="lite", channels=64, convs=2, imgsz=320)
ARCHITECTURES["lite2"] = Architecture(21, width=110, backbone="lite", channels=96, convs=2, imgsz=384)
ARCHITECTURES["swin-t"] = Architecture(12, width=96, backbone="swin", imgsz=1024)


def architecture(name: str, overrides: dict[str, Any] | None = None) -> Architecture:
    """A named architecture, with single sizes replaced.

    Args:
        name: a key of ``ARCHITECTURES``.
        overrides: fields of :class:`Architecture` that differ, such as ``{"width": 32}``.

    Raises:
        BadInput: an unknown name or field, or sizes that no network can have.

    Example:
        >>> architecture("r18", {"channels": 64}).channels
        64
        >>> architecture("r50-dcn").deform_stages
        (2, 3, 4)
    """
    if name not in ARCHITECTURES:
        raise BadInput(
            f"--model {name!r}: expected one of {', '.join(ARCHITECTURES)}, or a checkpoint (.pt) to go on from"
        )
    values = {**asdict(ARCHITECTURES[name]), **(overrides or {})}
    result = build(Architecture, values, f"network {name}", coerce=True, noun="sizes")
    if result.backbone != "resnet":
        return _not_resnet(name, result, swin.BLOCKS if result.backbone == "swin" else efficientnet.BLOCKS)
    if result.depth not in BLOCKS or result.channels < 4 or result.width < 4 or result.convs < 0:
        raise BadInput(f"network {name}: {result} cannot be built; depths are {', '.join(map(str, BLOCKS))}")
    if not BLOCKS[result.depth][0] and (result.groups > 1 or result.deform_stages or result.stride_in_1x1):
        raise BadInput(f"network {name}: groups, deform_stages and stride_in_1x1 need a depth of 50 or more")
    if result.groups < 1 or result.base_width < 1 or not set(result.deform_stages) <= {1, 2, 3, 4}:
        raise BadInput(f"network {name}: expected groups and base_width of 1 or more, deform_stages of 1 to 4")
    return result


def _not_resnet(name: str, size: Architecture, depths: Collection[int]) -> Architecture:
    """A Swin's or a Lite's architecture as it is. Raises BadInput where it cannot be built."""
    plain = Architecture(size.depth)
    odd = [field for field in _OF_RESNET if getattr(size, field) != getattr(plain, field)]
    if odd:
        raise BadInput(f"network {name}: {', '.join(odd)} belong to ResNets")
    if size.depth not in depths or size.channels < 4 or size.width < 4 or size.convs < 0:
        raise BadInput(f"network {name}: {size} cannot be built; depths are {', '.join(map(str, depths))}")
    return size


def normalisation(size: Architecture) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation that suit a backbone: of RGB, in grey levels 0 to 255, as in an ``InputSpec``.

    They are those its ImageNet weights were trained with; a run from scratch takes the same.

    Example:
        >>> normalisation(architecture("lite0"))
        ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
    """
    if size.backbone == "lite":
        return efficientnet.MEAN, efficientnet.STD
    return InputSpec.mean, InputSpec.std


def _make_backbone(size: Architecture) -> ResNet | swin.Swin | efficientnet.EfficientNetLite:
    if size.backbone == "swin":
        return swin.Swin(size.depth, size.width)
    if size.backbone == "lite":
        return efficientnet.EfficientNetLite(size.depth, width_percent=size.width)
    return ResNet(
        size.depth,
        width=size.width,
        light_stem=size.light_stem,
        groups=size.groups,
        base_width=size.base_width,
        stride_in_1x1=size.stride_in_1x1,
        deform_stages=size.deform_stages,
    )


class DenseDetector(nn.Module):
    """uint8 images in, maps of all levels out; :meth:`dense` decodes them.

    Args:
        num_classes: C, at least 1.
        input_spec: its mean and std are applied here, so that they are part of every export.
    """

    def __init__(self, size: Architecture, method: Method, num_classes: int, input_spec: InputSpec) -> None:
        super().__init__()
        self.method = method
        method.build(size.channels)
        self.bgr = input_spec.color_order == "bgr"
        self.backbone = _make_backbone(size)
        self.neck = FPN(self.backbone.out_channels, size.channels, size.p6_from, size.p7_relu)
        self.head = (TaskAlignedHead if size.head == "tood" else Head)(
            size.channels,
            convs=size.convs,
            num_classes=num_classes,
            branches=method.branches(),
            levels=len(FPN.strides),
            tower_bias=size.tower_bias,
            gn_groups=size.gn_groups,
            deform=size.deform_head,
        )
        self.register_buffer("mean", torch.tensor(input_spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(input_spec.std).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.fixed: tuple[nn.Module, ...] = ()

    def train(self, mode: bool = True) -> Self:
        """As of any module; what is ``fixed`` (:mod:`aweigh.train.models.freezing`) stays in evaluation mode."""
        super().train(mode)
        for module in self.fixed:
            module.eval()
        return self

    def forward(self, images_u8: Tensor) -> list[Maps]:
        """Maps of the five levels from [B, H, W, 3] uint8 images, sides multiples of 32 at best."""
        x = images_u8.permute(0, 3, 1, 2).to(self.mean.dtype)
        # As wide as the image: ONNX Runtime moves the channels last, and broadcasts whole rows much faster than three
        # numbers per pixel.
        mean, std = (each.expand(-1, -1, 1, x.shape[3]) for each in (self.mean, self.std))
        x = ((x.flip(1) if self.bgr else x) - mean) / std
        features = self.neck(self.backbone(x))
        own = self.method.pyramid_maps(features)
        return [{**maps, **more} for maps, more in zip(self.head(features), own, strict=True)]

    def points(self, maps: list[Maps]) -> Points:
        """The points of these maps; their sizes are taken from the features, never recomputed from the image."""
        shapes = [(level["reg"].shape[-2], level["reg"].shape[-1]) for level in maps]
        return make_points(shapes, FPN.strides, self.method.point_offset, maps[0]["reg"].device)

    def read(self, maps: list[Maps]) -> tuple[Points, Predictions]:
        """The points of the maps and what the network predicts at them, in the method's own coding."""
        points = self.points(maps)
        return points, self.method.predictions(maps, points)

    def dense(self, images_u8: Tensor) -> Dense:
        """Decoded boxes and ranking scores of all points, from [B, H, W, 3] uint8 images."""
        points, predictions = self.read(self(images_u8))
        return Dense(
            self.method.boxes(predictions.reg, points.xy, points.stride),
            self.method.scores(predictions),
            predictions.cls_logits.sigmoid(),
            points.level_sizes,
            (images_u8.shape[1], images_u8.shape[2]),
        )


def build_detector(
    name: str,
    method: str,
    num_classes: int,
    input_spec: InputSpec,
    overrides: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> DenseDetector:
    """A detector with fresh weights, in training mode, on the CPU.

    Args:
        name: of the architecture, see :func:`architecture`.
        method: of label assignment, a key of ``METHODS``.
        num_classes: C, at least 1.
        input_spec: colour order, mean and standard deviation of the network input.
        overrides: sizes that differ from the named architecture.
        options: of the method that differ from its defaults.

    Raises:
        BadInput: an unknown name, size or option; no class at all.

    Example:
        >>> import torch
        >>> detector = build_detector("nano", "fcos", 3, InputSpec((64, 96))).eval()
        >>> dense = detector.dense(torch.zeros(2, 64, 96, 3, dtype=torch.uint8))
        >>> tuple(dense.boxes_xyxy.shape), tuple(dense.scores.shape), dense.level_sizes
        ((2, 129, 4), (2, 129, 3), [96, 24, 6, 2, 1])
    """
    if num_classes < 1:
        raise BadInput("the data set names no category; a detector needs at least one")
    size = architecture(name, overrides)
    return DenseDetector(size, make_method(method, num_classes, options), num_classes, input_spec)

"""Sizes of a network, read off the shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from aweigh.runtime.errors import BadInput
from aweigh.train.models.detector import ARCHITECTURES, Architecture
from aweigh.train.models.resnet import BLOCKS

_STAGES = (1, 2, 3, 4)


@dataclass(frozen=True)
class Layout:
    """What the tensors of a detector reveal.

    Attributes:
        size: of the network, except for what leaves no trace: place of the stride, ReLU before P7, groups of the norms.
        classes: of the classification output.
        branches: the head's outputs, by name, with the number of extra convolutions before each.
    """

    size: Architecture
    classes: int
    branches: Mapping[str, int]


def read_layout(tensors: Mapping[str, Tensor]) -> Layout:
    """Sizes of a detector from its tensors, by their names in aweigh.

    Raises:
        BadInput: a tensor that a size is read from is missing or no convolution's, or no ResNet of a known depth has
            these blocks.
    """
    shape = _Shapes(tensors)
    counts = tuple(_count(tensors, rf"backbone\.layer{stage}\.(\d+)\.") for stage in _STAGES)
    bottleneck = "backbone.layer1.0.conv3.weight" in tensors
    depth = next((depth for depth, blocks in BLOCKS.items() if blocks == (bottleneck, counts)), None)
    if depth is None:
        raise BadInput(
            f"stages of {counts} blocks {'with' if bottleneck else 'without'} 1x1 convolutions: no ResNet of depth "
            f"{', '.join(map(str, BLOCKS))}"
        )
    width = shape("backbone.conv1.weight")[0]
    groups, base_width = 1, 64
    if bottleneck:
        middle, per_group = shape("backbone.layer1.0.conv2.weight")[:2]
        planes = max(1, shape("backbone.layer1.0.conv3.weight")[0] // 4)
        groups = middle // per_group
        base_width = -(-per_group * 64 // planes)
    channels = shape("neck.lateral.0.weight")[0]
    convs = _count(tensors, r"head\.towers\.cls\.(\d+)\.") // 2
    last = 3 * (convs - 1)
    size = Architecture(
        depth,
        width,
        channels=channels,
        convs=convs,
        groups=groups,
        base_width=base_width,
        deform_stages=tuple(s for s in _STAGES if f"backbone.layer{s}.0.conv2.conv_offset.weight" in tensors),
        p6_from="p5" if shape("neck.p6.weight")[1] == channels else "c5",
        tower_bias="head.towers.cls.0.bias" in tensors,
        deform_head=f"head.towers.cls.{last}.conv_offset.weight" in tensors,
    )
    return Layout(
        size,
        classes=shape("head.outputs.cls.weight")[0],
        branches={
            match[1]: _count(tensors, rf"head\.extra\.{match[1]}\.(\d+)\.") // 2
            for name in tensors
            if (match := re.fullmatch(r"head\.outputs\.(\w+)\.weight", name))
        },
    )


@dataclass(frozen=True)
class NamedSize:
    """A size as a checkpoint stores it: a name of ``ARCHITECTURES``, and the fields that differ from it."""

    architecture: str
    network: dict[str, Any]


def named(size: Architecture) -> NamedSize:
    """By the nearest named architecture of this depth; groups and deformable convolutions count most."""
    own = asdict(size)
    del own["imgsz"]

    def alike(name: str) -> tuple[int, int]:
        other = asdict(ARCHITECTURES[name])
        important = ("groups", "base_width", "deform_stages", "light_stem")
        return sum(own[key] == other[key] for key in important), sum(own[key] == other[key] for key in own)

    name = max((name for name, other in ARCHITECTURES.items() if other.depth == size.depth), key=alike)
    nearest = asdict(ARCHITECTURES[name])
    return NamedSize(name, {key: value for key, value in own.items() if value != nearest[key]})


class _Shapes:
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def __call__(self, name: str) -> tuple[int, ...]:
        if name not in self._tensors:
            raise BadInput(f"{name} is missing: without it the sizes of the network are unknown")
        shape = tuple(self._tensors[name].shape)
        if len(shape) != 4 or min(shape) < 1:
            raise BadInput(f"{name} of shape {list(shape)}: expected the weights of a convolution, [out, in, h, w]")
        return shape


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers stand at the group of the pattern, at the start of a name."""
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})

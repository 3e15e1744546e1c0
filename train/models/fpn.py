"""Feature pyramid P3 to P7 (arXiv 1612.03144; P6 and P7 from P5 as in FCOS, or from C5 as in RetinaNet)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn


class Downsample(nn.Conv2d):
    """3x3 convolution of stride 2 whose weight gradient is right on maps of one row or column as well.

    oneDNN's bfloat16 kernel (torch 2.13, CPU) leaves the gradient of taps that only see padding uninitialised
    there: infinities from nowhere. With the padding written out, every tap sees the map.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and min(x.shape[-2:]) == 1:
            return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.weight, self.bias, stride=2)
        return super().forward(x)


class FPN(nn.Module):
    """C3, C4, C5 to five maps of ``channels`` channels, strides 8 to 128.

    Args:
        p6_from: what P6 is computed from.
        p7_relu: whether P6 goes through a ReLU on its way to P7.
    """

    strides = (8, 16, 32, 64, 128)

    def __init__(
        self, in_channels: Sequence[int], channels: int, p6_from: Literal["p5", "c5"] = "p5", p7_relu: bool = True
    ) -> None:
        super().__init__()
        self.p6_from, self.p7_relu = p6_from, p7_relu
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        self.p6 = Downsample(in_channels[-1] if p6_from == "c5" else channels, channels)
        self.p7 = Downsample(channels, channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        inner = [lateral(x) for lateral, x in zip(self.lateral, features, strict=True)]
        for i in range(len(inner) - 1, 0, -1):
            inner[i - 1] = inner[i - 1] + F.interpolate(inner[i], size=inner[i - 1].shape[-2:], mode="nearest")
        levels: list[Tensor] = [output(x) for output, x in zip(self.output, inner, strict=True)]
        p6 = self.p6(features[-1] if self.p6_from == "c5" else levels[-1])
        levels += [p6, self.p7(F.relu(p6) if self.p7_relu else p6)]
        return levels

"""Feature pyramid P3 to P7 (arXiv 1612.03144; P6 and P7 from P5 as in FCOS)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Downsample(nn.Conv2d):
    """3x3 convolution of stride 2 whose weight gradient is right on maps of one row or column as well.

    oneDNN's bfloat16 kernel (torch 2.13, CPU) leaves the gradient of taps that see padding alone uninitialised
    there: infinities from nowhere. With the padding written out, every tap sees the map.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and min(x.shape[-2:]) == 1:
            return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.weight, self.bias, stride=2)
        return super().forward(x)


class FPN(nn.Module):
    """C3, C4, C5 to five maps of ``channels`` channels, strides 8 to 128."""

    strides = (8, 16, 32, 64, 128)

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        self.p6 = Downsample(channels, channels)
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
        levels.append(self.p6(levels[-1]))
        levels.append(self.p7(F.relu(levels[-1])))
        return levels

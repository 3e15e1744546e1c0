"""EfficientNet-Lite (arXiv 1905.11946, its Lite form) with the published parameter names, less their underscores.

Made of convolutions, additions and ReLU6 alone: no squeeze and excitation, no swish, which quantise badly.

As trained, convolutions of stride 2 pad as TensorFlow's "SAME" does: one row and column less at the top and the left
than at the bottom and the right. For maps with even sides, as inputs of multiples of 32 have at every stride, that is
0 and 1 for a 3x3 and 1 and 2 for a 5x5; symmetric padding would shift every map by half a pixel of its input.
Weights of ImageNet expect RGB as (x - 127) / 128. Deviations: no classifier with its 1x1 convolution before it, and no
drop connect in training.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

# Per stage: kernel, stride, expansion, channels of Lite0.
_STAGES = ((3, 1, 1, 16), (3, 2, 6, 24), (5, 2, 6, 40), (3, 2, 6, 80), (5, 1, 6, 112), (5, 2, 6, 192), (3, 1, 6, 320))
# Depth (number of blocks): blocks per stage, of Lite0 and of Lite2. The first and the last stage are never deepened.
BLOCKS: dict[int, tuple[int, ...]] = {16: (1, 2, 2, 3, 3, 4, 1), 21: (1, 3, 3, 4, 4, 5, 1)}
MEAN = (127.0, 127.0, 127.0)
STD = (128.0, 128.0, 128.0)
_STEM_CHANNELS = 32  # of every width
_BN_EPS = 1e-3
_BN_MOMENTUM = 0.01
_LAST_STAGES = (2, 4, 6)  # that give C3, C4, C5


class SameConv2d(nn.Conv2d):
    """A convolution without bias whose output has the input's sides divided by the stride, padded as "SAME".

    At stride 2 the input's sides must be even: for odd ones "SAME" would be symmetric.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 2:
            before = (self.kernel_size[0] - 2) // 2
            after = self.kernel_size[0] - 2 - before
            x = F.pad(x, (before, after, before, after))
        return super().forward(x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, _BN_EPS, _BN_MOMENTUM)


class InvertedBottleneck(nn.Module):
    """Expand by a 1x1 convolution, convolve each channel apart, project by another; a residual where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands = expansion > 1
        if self.expands:
            self.expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self.bn0 = _norm(inner)
        self.depthwise_conv = SameConv2d(inner, inner, kernel, stride, groups=inner)
        self.bn1 = _norm(inner)
        self.project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn2 = _norm(outputs)
        self.relu = nn.ReLU6(inplace=True)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.bn0(self.expand_conv(x))) if self.expands else x
        inner = self.relu(self.bn1(self.depthwise_conv(inner)))
        result = self.bn2(self.project_conv(inner))
        return x + result if self.adds else result  # type: ignore[no-any-return]


class EfficientNetLite(nn.Module):
    """Feature maps C3, C4, C5 (strides 8, 16, 32) of [B, 3, H, W] images whose sides are multiples of 32.

    Args:
        depth: number of blocks: 16 is Lite0, 21 is Lite2.
        width_percent: channels in hundredths of Lite0's, rounded to multiples of 8: 100 is Lite0, 110 is Lite2.
    """

    strides = (8, 16, 32)

    def __init__(self, depth: int, *, width_percent: int = 100) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(3, _STEM_CHANNELS, 3, 2)
        self.bn0 = _norm(_STEM_CHANNELS)
        self.relu = nn.ReLU6(inplace=True)
        blocks: list[nn.Module] = []
        channels = _STEM_CHANNELS
        self.ends: list[int] = []  # number of blocks up to the end of each stage
        self.out_channels: list[int] = []
        for stage, ((kernel, stride, expansion, lite0), count) in enumerate(zip(_STAGES, BLOCKS[depth], strict=True)):
            outputs = _rounded(lite0, width_percent)
            for i in range(count):
                blocks.append(InvertedBottleneck(channels, outputs, kernel, stride if i == 0 else 1, expansion))
                channels = outputs
            self.ends.append(len(blocks))
            if stage in _LAST_STAGES:
                self.out_channels.append(outputs)
        self.blocks = nn.ModuleList(blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def parts(self) -> list[list[nn.Module]]:
        """The stem, then the blocks of stride 2 to 4, of 8, of 16 and of 32."""
        ends = [0, self.ends[1], *(self.ends[stage] for stage in _LAST_STAGES)]
        stages = [list(self.blocks[first:last]) for first, last in itertools.pairwise(ends)]
        return [[self.conv_stem, self.bn0, self.relu], *stages]

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        x = self.relu(self.bn0(self.conv_stem(x)))
        maps = []
        for done, block in enumerate(self.blocks, start=1):
            x = block(x)
            if done in (self.ends[stage] for stage in _LAST_STAGES):
                maps.append(x)
        return maps


def _rounded(lite0: int, width_percent: int) -> int:
    """Channels at a width, to the nearest multiple of 8 that is not below nine tenths of the product."""
    wanted = lite0 * width_percent / 100
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded

"""ResNet (arXiv 1512.03385) with torchvision's parameter names, so that ImageNet weights load by name.

Deviations: no classifier; ``light`` replaces the 7x7 stem and its pooling by two 3x3 convolutions of stride 2, which
costs a CPU a third of the time; ``width`` scales all stages.

Variants: ResNeXt (arXiv 1611.05431) by ``groups`` and ``base_width``; the stride of a stage in its first 1x1
convolution, as in the paper and in Caffe's weights, in place of the 3x3; deformable 3x3 convolutions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor, nn

from aweigh.train.models.deform import DeformConv2d

BLOCKS: dict[int, tuple[bool, tuple[int, int, int, int]]] = {  # depth: (bottleneck?, blocks per stage)
    10: (False, (1, 1, 1, 1)),
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(inputs, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.relu(x + shortcut)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """``stride_in_1x1``: else it sits in the 3x3, as in torchvision (the "v1.5" of the paper's network)."""

    expansion = 4

    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: int,
        *,
        groups: int = 1,
        base_width: int = 64,
        stride_in_1x1: bool = False,
        deform: bool = False,
    ) -> None:
        super().__init__()
        width = max(1, planes * base_width // 64) * groups
        outputs = planes * self.expansion
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(inputs, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = (
            DeformConv2d(width, width, second, groups)
            if deform
            else nn.Conv2d(width, width, 3, second, 1, groups=groups, bias=False)
        )
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu(x + shortcut)  # type: ignore[no-any-return]


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Feature maps C3, C4, C5 (strides 8, 16, 32).

    Args:
        depth: 10, 18, 34, 50, 101 or 152.
        width: channels of the first stage, 64 in the paper.
        light_stem, stride_in_1x1: see the module's text.
        groups, base_width: of the 3x3 convolutions: 64 and 4 in ResNeXt 64x4d.
        deform_stages: of 1 to 4, those whose 3x3 convolutions are deformable.

    Groups, deformable convolutions and the choice of stride exist only for depths from 50 on (with 1x1 convolutions).
    """

    strides = (8, 16, 32)

    def __init__(
        self,
        depth: int,
        *,
        width: int = 64,
        light_stem: bool = False,
        groups: int = 1,
        base_width: int = 64,
        stride_in_1x1: bool = False,
        deform_stages: Collection[int] = (),
    ) -> None:
        super().__init__()
        bottleneck, blocks = BLOCKS[depth]
        expansion = Bottleneck.expansion if bottleneck else BasicBlock.expansion
        if light_stem:
            self.stem = nn.Sequential(
                nn.Conv2d(3, width // 2, 3, 2, 1, bias=False),
                nn.BatchNorm2d(width // 2),
                nn.ReLU(inplace=True),
                nn.Conv2d(width // 2, width, 3, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
        else:
            self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.light_stem = light_stem
        channels = width
        stages: list[nn.Sequential] = []
        outputs: list[int] = []
        for stage, count in enumerate(blocks):
            planes = width * 2**stage
            layers: list[nn.Module] = []
            for i in range(count):
                stride = 2 if stage and i == 0 else 1
                if bottleneck:
                    layers.append(
                        Bottleneck(
                            channels,
                            planes,
                            stride,
                            groups=groups,
                            base_width=base_width,
                            stride_in_1x1=stride_in_1x1,
                            deform=stage + 1 in deform_stages,
                        )
                    )
                else:
                    layers.append(BasicBlock(channels, planes, stride))
                channels = planes * expansion
            stages.append(nn.Sequential(*layers))
            outputs.append(channels)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.out_channels = outputs[1:]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, DeformConv2d):
                module.reset_offsets()

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        if self.light_stem:
            x = self.stem(x)
        else:
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer1(x)
        c3 = self.layer2(x)
        c4 = self.layer3(c3)
        return c3, c4, self.layer4(c4)

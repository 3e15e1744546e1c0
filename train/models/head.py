"""The head of FCOS (arXiv 2006.09214): two towers shared by all levels, and the branches a method asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aweigh.runtime.errors import BadInput
from aweigh.train.methods.values import Branch, Maps
from aweigh.train.models.deform import DeformConv2d

# Probability of every class at the start: low, so that the many negatives do not drown the first steps.
PRIOR_PROBABILITY = 0.01


class Head(nn.Module):
    """Maps of every branch for every level.

    Args:
        channels: of the incoming maps and of the towers.
        convs: conv-GN-ReLU layers of each tower.
        branches: outputs, from the method; those on the pyramid are not the head's.
        levels: of the pyramid; each has one learned scalar per scaled branch.
        tower_bias: whether the convolutions of the towers have a bias, which the norm behind them mostly undoes.
        gn_groups: of every group norm; 0 is 32 as in the paper, or fewer where the tower is narrow.
        deform: whether the last convolution of each tower is deformable.

    Raises BadInput where ``gn_groups`` does not divide the channels of a tower.
    """

    def __init__(
        self,
        channels: int,
        *,
        convs: int,
        num_classes: int,
        branches: Sequence[Branch],
        levels: int,
        tower_bias: bool = False,
        gn_groups: int = 0,
        deform: bool = False,
    ) -> None:
        super().__init__()
        self.branches = tuple(branch for branch in branches if branch.tower != "pyramid")
        self.towers = nn.ModuleDict(
            {name: _tower(channels, channels, convs, tower_bias, gn_groups, deform) for name in ("cls", "reg")}
        )
        self.extra = nn.ModuleDict()
        self.outputs = nn.ModuleDict()
        self.scales = nn.ParameterDict()
        for branch in self.branches:
            width = channels
            if branch.extra_convs:
                width = channels // 4
                self.extra[branch.name] = _tower(channels, width, branch.extra_convs, tower_bias, gn_groups)
            output = nn.Conv2d(width, branch.channels or num_classes, 3, padding=1)
            nn.init.normal_(output.weight, std=0.01)
            nn.init.constant_(output.bias, branch.bias)  # type: ignore[arg-type]
            if branch.name == "cls":
                nn.init.constant_(output.bias, math.log(PRIOR_PROBABILITY / (1 - PRIOR_PROBABILITY)))  # type: ignore[arg-type]
            self.outputs[branch.name] = output
            if branch.scaled:
                self.scales[branch.name] = nn.Parameter(torch.ones(levels))

    def forward(self, levels: Sequence[Tensor]) -> list[Maps]:
        return [self._level(x, i) for i, x in enumerate(levels)]

    def _level(self, x: Tensor, level: int) -> Maps:
        towers = {name: tower(x) for name, tower in self.towers.items()}
        maps = {}
        for branch in self.branches:
            y = towers[branch.tower]
            if branch.name in self.extra:
                y = self.extra[branch.name](y)
            y = self.outputs[branch.name](y)
            maps[branch.name] = y * self.scales[branch.name][level] if branch.scaled else y
        return maps


def _tower(inputs: int, channels: int, convs: int, bias: bool, groups: int, deform: bool = False) -> nn.Sequential:
    if groups and channels % groups:
        raise BadInput(f"{channels} channels of the head do not divide into gn_groups {groups}")
    layers: list[nn.Module] = []
    for i in range(convs):
        incoming = inputs if i == 0 else channels
        conv = (
            DeformConv2d(incoming, channels, bias=bias)
            if deform and i == convs - 1
            else nn.Conv2d(incoming, channels, 3, padding=1, bias=bias)
        )
        nn.init.normal_(conv.weight, std=math.sqrt(2.0 / (9 * incoming)))
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        layers += [conv, nn.GroupNorm(groups or _groups(channels), channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _groups(channels: int) -> int:
    """32 as in the paper, or the largest divisor below that leaves at least four channels a group."""
    return max(g for g in range(1, 33) if channels % g == 0 and (channels // g >= 4 or g == 1))

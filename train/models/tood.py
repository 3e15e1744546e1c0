"""The task-aligned head of TOOD (arXiv 2108.07755), which DW's paper puts behind its DW* (Table 7).

One stack of convolutions serves both tasks; each task weighs the layers by an attention of the image and reduces
them to its own feature, and the classification is aligned with a map that is learned from all layers:
P = sqrt(sigmoid(logit) sigmoid(alignment)).

Taken: the interactive stack, the layer attention, the alignment of the classification. Left out: the alignment of the
localisation, a learned offset per side at which the predicted distances are sampled anew: DW's box refinement, which is
on by default, samples the predicted sides at learned offsets as well. DW's paper names the head and says no
more, and its authors released no such head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aweigh.runtime.errors import BadInput
from aweigh.train.methods.values import Branch, Maps
from aweigh.train.models.head import PRIOR_PROBABILITY, Head, _groups, _tower

_LAYERS_PER_CONV = 3  # convolution, norm, ReLU
_ATTENTION_REDUCTION = 8
_LEAST_PROBABILITY = 1e-30


class LayerAttention(nn.Module):
    """All layers of the stack to the feature of one task.

    Args:
        channels: of each layer and of the feature; ``layers``: how many there are.
    """

    def __init__(self, channels: int, layers: int, groups: int) -> None:
        super().__init__()
        self.layers = layers
        hidden = max(1, channels * layers // _ATTENTION_REDUCTION)
        self.attention = nn.Sequential(
            nn.Conv2d(channels * layers, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, layers, 1), nn.Sigmoid()
        )
        self.reduction = nn.Conv2d(channels * layers, channels, 1, bias=False)
        self.norm = nn.GroupNorm(groups or _groups(channels), channels)
        for module in self.attention:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.reduction.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """[B, layers * C, H, W] to [B, C, H, W]."""
        weights = self.attention(x.mean((2, 3), keepdim=True))  # [B, layers, 1, 1]
        weighted = torch.unflatten(x, 1, (self.layers, -1)) * weights.unsqueeze(2)
        return F.relu(self.norm(self.reduction(weighted.flatten(1, 2))))


class TaskAlignedHead(Head):
    """As :class:`Head`; its ``convs`` are those of the shared stack, six in the paper.

    Raises BadInput for no convolution at all.
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
        super().__init__(
            channels,
            convs=0,
            num_classes=num_classes,
            branches=branches,
            levels=levels,
            tower_bias=tower_bias,
            gn_groups=gn_groups,
        )
        if convs < 1:
            raise BadInput("--head tood: expected at least one convolution in the stack (convs of the network)")
        self.stack = _tower(channels, channels, convs, tower_bias, gn_groups, deform)
        self.towers = nn.ModuleDict({name: LayerAttention(channels, convs, gn_groups) for name in ("cls", "reg")})
        hidden = max(1, channels // 4)
        self.alignment = nn.Sequential(
            nn.Conv2d(channels * convs, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, 1, 3, padding=1)
        )
        for module in self.alignment:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.alignment[-1].bias, math.log(PRIOR_PROBABILITY / (1 - PRIOR_PROBABILITY)))  # type: ignore[arg-type]

    def _level(self, x: Tensor, level: int) -> Maps:
        layers: list[Tensor] = []
        for start in range(0, len(self.stack), _LAYERS_PER_CONV):
            x = self.stack[start : start + _LAYERS_PER_CONV](x)
            layers.append(x)
        stacked = torch.cat(layers, 1)
        maps = super()._level(stacked, level)
        return {**maps, "cls": geometric_mean_logits(maps["cls"], self.alignment(stacked))}


def geometric_mean_logits(a: Tensor, b: Tensor) -> Tensor:
    """Logits of sqrt(sigmoid(a) sigmoid(b)), float32; finite and without cancellation where either saturates."""
    a, b = a.float(), b.float()
    log_p = -(F.softplus(-a) + F.softplus(-b)) / 2
    # 1 - sqrt(uv) = (1 - uv) / (1 + sqrt(uv)), and 1 - uv = (1 - u) + u (1 - v).
    rest = torch.sigmoid(-a) + torch.sigmoid(a) * torch.sigmoid(-b)
    return log_p + torch.log(1 + torch.exp(log_p)) - torch.log(rest.clamp_min(_LEAST_PROBABILITY))

"""ALA's instance property branch: where the image shows objects, and where ground (Sec. III-A, Eq. 1 and 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aweigh.train.methods.values import at_least_float32

_MIN_FOREGROUND = 1e-6


class InstancePropertyBranch(nn.Module):
    """Foreground of every pyramid level from P3 and P5.

    Args:
        channels: of the pyramid.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.align = nn.Conv2d(channels, channels, 1)  # W_S
        self.properties = nn.Conv2d(2 * channels, 2, 1)  # W_C
        nn.init.kaiming_uniform_(self.align.weight, a=1)
        nn.init.normal_(self.properties.weight, std=0.01)
        for conv in (self.align, self.properties):
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Logits [B, 1, rows, columns] of M+ for each level of features [B, c, rows, columns]; M- is 1 - M+."""
        fine, coarse = self.align(features[0]), features[2]
        coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        properties = at_least_float32(self.properties(torch.cat((fine, coarse), dim=1)))
        foreground = blurred(properties.softmax(dim=1)[:, :1])
        logits = []
        for level in features:
            seen = F.interpolate(foreground, size=level.shape[-2:], mode="bilinear", align_corners=False)
            logits.append(seen.clamp(_MIN_FOREGROUND, 1 - _MIN_FOREGROUND).logit())
        return logits


def blurred(maps: Tensor) -> Tensor:
    """Gaussian blur [B, 1, H, W] of radius 3 and variance 2, edges repeated (Eq. 5).

    Shifted sums for a convolution: autocast would round that to bfloat16.
    """
    kernel = [math.exp(-(i**2) / 4) for i in range(-3, 4)]
    weights = [k / sum(kernel) for k in kernel]
    rows, columns = maps.shape[-2:]
    padded = F.pad(maps, (3, 3, 3, 3), mode="replicate")
    along = torch.stack([padded[..., i : i + columns] * w for i, w in enumerate(weights)]).sum(dim=0)
    return torch.stack([along[..., i : i + rows, :] * w for i, w in enumerate(weights)]).sum(dim=0)

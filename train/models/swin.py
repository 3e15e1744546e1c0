"""Swin transformer (arXiv 2103.14030) with its authors' parameter names, so that ImageNet weights load by name.

As in detection: maps of any size, padded at the right and the bottom to whole windows; every second block shifts its
windows whatever the size (as a classifier the network does not where one window covers the map). A norm of its own
before each output. Deviation: no classifier and no norm behind the last stage.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS: dict[int, tuple[int, int, int, int]] = {12: (2, 2, 6, 2), 24: (2, 2, 18, 2)}  # depth: blocks per stage
WINDOW = 7
_SHIFT = WINDOW // 2
_HEAD_CHANNELS = 32
_MLP_RATIO = 4
_NOT_NEIGHBOURS = -100.0  # on the logits of attention between parts of a window that the shift brought together


class WindowAttention(nn.Module):
    """Self-attention within windows, with a learned bias by relative position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // _HEAD_CHANNELS)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, self.heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        place = torch.cartesian_prod(torch.arange(WINDOW), torch.arange(WINDOW))
        relative = place[:, None] - place[None] + WINDOW - 1
        self.register_buffer("relative_position_index", relative[..., 0] * (2 * WINDOW - 1) + relative[..., 1], False)
        self.relative_position_index: Tensor

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """[B, nH, nW, 49, C] to the same; ``mask`` [nH, nW, 1, 49, 49] is added to the logits."""
        count = WINDOW * WINDOW
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)  # [B, nH, nW, 49, heads, c]
        q, k, v = (part.transpose(-2, -3) for part in (q, k, v))
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        bias = self.relative_position_bias_table.index_select(0, self.relative_position_index.flatten())
        logits = logits + bias.view(count, count, self.heads).permute(2, 0, 1)
        if mask is not None:
            logits = logits + mask
        # The bias keeps the logits in FP32 where the layers around are in 16 bits; a product wants one type.
        weights = logits.softmax(-1).to(v.dtype)
        return self.proj((weights @ v).transpose(-2, -3).flatten(-2))  # type: ignore[no-any-return]


class MLP(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, _MLP_RATIO * channels)
        self.fc2 = nn.Linear(_MLP_RATIO * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention in windows, shifted or not, and an MLP; each may be left out of a step for single images.

    Args:
        drop: probability of that.
    """

    def __init__(self, channels: int, shifted: bool, drop: float) -> None:
        super().__init__()
        self.shifted, self.drop = shifted, drop
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, H, W, C] to the same; ``mask`` as :func:`shift_mask` makes it."""
        x = x + self._kept(self._attention(self.norm1(x), mask))
        return x + self._kept(self.mlp(self.norm2(x)))

    def _attention(self, x: Tensor, mask: Tensor) -> Tensor:
        height, width = x.shape[1], x.shape[2]
        x = to_whole_windows(x)
        if self.shifted:
            x = torch.cat((x[:, _SHIFT:], x[:, :_SHIFT]), 1)
            x = torch.cat((x[:, :, _SHIFT:], x[:, :, :_SHIFT]), 2)
        rows, columns = mask.shape[0], mask.shape[1]
        windows = torch.unflatten(torch.unflatten(x, 2, (columns, WINDOW)), 1, (rows, WINDOW)).transpose(2, 3)
        windows = self.attn(windows.flatten(3, 4), mask if self.shifted else None)
        x = windows.unflatten(3, (WINDOW, WINDOW)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if self.shifted:
            x = torch.cat((x[:, -_SHIFT:], x[:, :-_SHIFT]), 1)
            x = torch.cat((x[:, :, -_SHIFT:], x[:, :, :-_SHIFT]), 2)
        return x[:, :height, :width]

    def _kept(self, x: Tensor) -> Tensor:
        if not self.training or not self.drop:
            return x
        # Drawn on the CPU, whose generator is part of a run's state.
        kept = torch.empty(x.shape[0], 1, 1, 1).bernoulli_(1 - self.drop) / (1 - self.drop)
        return x * kept.to(x)


class PatchMerging(nn.Module):
    """Half the size: each 2x2 of [B, H, W, C], even H and W, to one vector of 2C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, -1)))  # type: ignore[no-any-return]


class Stage(nn.Module):
    def __init__(self, channels: int, drops: Sequence[float], merge: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels, bool(i % 2), drop) for i, drop in enumerate(drops))
        self.downsample = PatchMerging(channels) if merge else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map behind the blocks, and what the next stage takes."""
        mask = shift_mask(to_whole_windows(x[:1, :, :, :1]))
        for block in self.blocks:
            x = block(x, mask)
        return x, x if self.downsample is None else self.downsample(x)


class PatchEmbedding(nn.Module):
    """4x4 pixels to a vector."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 4, 4)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))  # type: ignore[no-any-return]


class Swin(nn.Module):
    """Feature maps C3, C4, C5 (strides 8, 16, 32) of images whose sides are multiples of 32.

    Args:
        depth: blocks, 12 (Swin-T) or 24 (Swin-S).
        width: channels of the first stage, 96 in the paper.
        drop_path: probability that the last block is left out of a step for an image; it rises over the blocks from 0.
    """

    strides = (8, 16, 32)

    def __init__(self, depth: int, width: int = 96, drop_path: float = 0.2) -> None:
        super().__init__()
        drops = torch.linspace(0, drop_path, depth).tolist()
        self.patch_embed = PatchEmbedding(width)
        stages = []
        for stage, count in enumerate(BLOCKS[depth]):
            stages.append(Stage(width * 2**stage, drops[:count], merge=stage < 3))
            drops = drops[count:]
        self.layers = nn.ModuleList(stages)
        self.out_channels = [width * 2**stage for stage in (1, 2, 3)]
        self.out_norms = nn.ModuleList(nn.LayerNorm(channels) for channels in self.out_channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def parts(self) -> list[nn.Module]:
        """The stem, then each stage."""
        return [self.patch_embed, *self.layers]

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        x = self.patch_embed(x)
        outputs: list[Tensor] = []
        for i, stage in enumerate(self.layers):
            y, x = stage(x)
            if i:
                outputs.append(self.out_norms[i - 1](y).permute(0, 3, 1, 2))
        return outputs


def to_whole_windows(x: Tensor) -> Tensor:
    """[B, H, W, C] with zeros at the right and the bottom."""
    return F.pad(x, (0, 0, 0, -x.shape[2] % WINDOW, 0, -x.shape[1] % WINDOW))


def shift_mask(x: Tensor) -> Tensor:
    """For maps of the size of ``x`` [1, H, W, 1], whole windows, once shifted: [nH, nW, 1, 49, 49].

    0 between places of one window that were neighbours before the shift, very negative between others.
    """
    areas = []
    for axis in (1, 2):
        place = torch.arange(x.shape[axis], device=x.device)
        # Of the last window, what came round from the other end is another area.
        area = (place >= x.shape[axis] - _SHIFT).to(x.dtype)
        areas.append(torch.unflatten(area, 0, (-1, WINDOW)))
    rows, columns = areas  # [nH, 7], [nW, 7]
    other_row = (rows[:, :, None] - rows[:, None]).abs()  # [nH, 7, 7]
    other_column = (columns[:, :, None] - columns[:, None]).abs()
    other = torch.maximum(other_row[:, None, :, None, :, None], other_column[None, :, None, :, None, :])
    return _NOT_NEIGHBOURS * other.flatten(4, 5).flatten(2, 3).unsqueeze(2)

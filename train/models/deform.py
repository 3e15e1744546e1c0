"""Modulated deformable convolution (DCNv2, arXiv 1811.11168), of operators that every exporter knows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = 9


class DeformConv2d(nn.Conv2d):
    """A 3x3 convolution, padding 1, whose nine taps read at learned places, each weighted by a learned mask.

    The places and masks are predicted from the input by ``conv_offset``, with channels as in mmcv: 18 offsets from the
    regular places, (row, column) for each tap in row-major order, in input cells; then 9 logits of the masks. Maps are
    read bilinearly and count as 0 outside. At the start the taps stand at their regular places, with masks of a half.

    All taps of an output cell are sampled into a 3x3 tile of their own, over which an ordinary convolution of stride 3
    runs: one GridSample and one Conv in a graph, with the weight as it is in the checkpoint.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, groups: int = 1, bias: bool = False) -> None:
        super().__init__(inputs, outputs, 3, stride, 1, groups=groups, bias=bias)
        self.conv_offset = nn.Conv2d(inputs, 3 * TAPS, 3, stride, 1)
        self.reset_offsets()

    def reset_offsets(self) -> None:
        """Regular places, masks of a half."""
        nn.init.zeros_(self.conv_offset.weight)
        assert self.conv_offset.bias is not None
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        # Places and samples in float32 at least, whatever the precision around them: a place is a small difference
        # of large numbers.
        predicted = _precise(self.conv_offset(x))
        mask = tiles(predicted[:, 2 * TAPS :].sigmoid())
        row, column = (tiles(predicted[:, axis : 2 * TAPS : 2]) for axis in (0, 1))
        sampled = sample_tiles(_precise(x), row, column, self.stride[0]) * mask
        return F.conv2d(sampled.to(self.weight.dtype), self.weight, self.bias, stride=3, groups=self.groups)


def _precise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def tiles(taps: Tensor) -> Tensor:
    """[B, 9, h, w] as [B, 1, 3h, 3w], the nine values of a cell as its tile."""
    batch, _, rows, columns = taps.shape
    return taps.view(batch, 3, 3, rows, columns).permute(0, 3, 1, 4, 2).reshape(batch, 1, 3 * rows, 3 * columns)


def sample_tiles(x: Tensor, row_offset: Tensor, column_offset: Tensor, stride: int) -> Tensor:
    """What the taps of a 3x3 convolution with padding 1 read, moved by their offsets.

    Args:
        x: [B, C, H, W].
        row_offset, column_offset: [B, 1, 3h, 3w] cells of ``x``, a tile for each of the [h, w] output cells.

    Returns:
        [B, C, 3h, 3w]; bilinear, 0 outside.
    """
    height, width = x.shape[-2:]
    row = _regular(row_offset.shape[-2] // 3, stride, x)[:, None] + row_offset[:, 0]
    column = _regular(column_offset.shape[-1] // 3, stride, x) + column_offset[:, 0]
    # Without aligned corners -1 to 1 spans the map from its outer edges; cell 0 has its centre half a cell inside.
    grid = torch.stack(((2 * column + 1) / width - 1, (2 * row + 1) / height - 1), dim=-1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _regular(cells: int, stride: int, like: Tensor) -> Tensor:
    """[3 * cells] places of the taps along an axis: -1, 0, 1 for the first cell, one stride more for each next."""
    first = torch.arange(cells, device=like.device, dtype=like.dtype) * stride
    tap = torch.arange(-1, 2, device=like.device, dtype=like.dtype)
    return (first[:, None] + tap).flatten()

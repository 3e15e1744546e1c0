"""The points a dense detector predicts at: one per cell of every pyramid level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aweigh.train.kernels.transfer import on_device


@dataclass(frozen=True)
class Points:
    """Points of all levels, level-major, then row-major (y outer, x inner).

    Attributes:
        xy: [P, 2] pixels of the network input.
        stride: [P] pixels between neighbours, of the point's level.
        shapes_hw: (rows, columns) of each level.
        strides: of each level, pixels.
        offset: place of a point in its cell, 0 (corner) to 0.5 (centre).
    """

    xy: Tensor
    stride: Tensor
    shapes_hw: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    offset: float

    @property
    def level_sizes(self) -> list[int]:
        """Number of points of each level."""
        return [rows * columns for rows, columns in self.shapes_hw]

    def levels(self) -> Tensor:
        """Level of each point, [P] int64."""
        sizes = on_device(torch.tensor(self.level_sizes), self.xy.device)
        # The size is given: a GPU would have to be asked for it.
        return torch.repeat_interleave(sizes, output_size=sum(self.level_sizes))


def make_points(
    shapes_hw: Sequence[tuple[int, int]],
    strides: Sequence[int],
    offset: float,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Points:
    """Points at ((column + offset) * stride, (row + offset) * stride). Exportable with symbolic shapes.

    Args:
        shapes_hw: (rows, columns) of each level.
        strides: of each level, pixels of the network input.
        offset: position of a point in its cell, 0 (corner) to 0.5 (centre).

    Example:
        >>> points = make_points([(1, 2), (1, 1)], [8, 16], offset=0.5)
        >>> points.xy.tolist()
        [[4.0, 4.0], [12.0, 4.0], [8.0, 8.0]]
        >>> points.levels().tolist()
        [0, 0, 1]
    """
    xy, stride = [], []
    for (rows, columns), step in zip(shapes_hw, strides, strict=True):
        x = (torch.arange(columns, device=device, dtype=dtype) + offset) * step
        y = (torch.arange(rows, device=device, dtype=dtype) + offset) * step
        grid = torch.stack((x.expand(rows, columns), y[:, None].expand(rows, columns)), dim=-1)
        xy.append(grid.reshape(-1, 2))
        stride.append(torch.full_like(xy[-1][:, 0], float(step)))
    return Points(torch.cat(xy), torch.cat(stride), tuple(shapes_hw), tuple(strides), offset)

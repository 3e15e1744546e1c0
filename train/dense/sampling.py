"""Bilinear samples of the maps of all levels at once, at places that a network predicts.

By hand, because ``grid_sample`` wants places scaled to -1..1, which costs digits, has no bfloat16, and takes one level
at a time. The neighbours of a place are an axis of the tensors, and so are row and column: an exported graph has one
node where it would have one for each level, neighbour and coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aweigh.train.dense.points import Points
from aweigh.train.kernels.transfer import on_device


@dataclass(frozen=True)
class Cells:
    """Where each point lies in the map of its level.

    Attributes:
        place: [2, P] row and column.
        last: [2, P] the last row and the last column of its level.
        first: [P] which of all points is the first of its level.
    """

    place: Tensor
    last: Tensor
    first: Tensor


def cells_of(points: Points, dtype: torch.dtype) -> Cells:
    """Of all points, all levels at once. Exportable with symbolic shapes: nothing but tensors is computed with."""
    xy, stride = points.xy.to(dtype), points.stride.to(dtype)
    place = (xy.T / stride - points.offset).flip(0)  # exact, for strides are powers of two
    strides = on_device(torch.tensor(points.strides, dtype=dtype), xy.device)
    of_level = stride == strides[:, None]  # [L, P]
    last_of_level = torch.where(of_level, place[:, None], 0.0).amax(dim=2, keepdim=True)
    last = torch.where(of_level, last_of_level, 0.0).sum(dim=1)
    position = torch.arange(xy.shape[0], device=xy.device, dtype=dtype)  # len() would be fixed in a graph
    return Cells(place, last, position - (place[0] * (last[1] + 1) + place[1]))


def sample_zero_outside(values: Tensor, place: Tensor, cells: Cells) -> Tensor:
    """Bilinear samples of each level's map at its own points' places; neighbours outside the map count as 0.

    Args:
        values: [B, K, P] K maps, all levels one after the other.
        place: [2, B, K, P] row and column, in cells of the point's level.
        cells: of the P points.

    Returns:
        [B, K, P].
    """
    # Of the two rows and the two columns around a place: where they are, clamped to the map, and their weight.
    bit = torch.arange(2, device=place.device, dtype=place.dtype)[:, None]
    floor = place.detach().floor()
    at = floor.unsqueeze(-2) + bit  # [2, B, K, 2, P]
    within = at.clamp(min=0).minimum(cells.last[:, None, None, None])
    weight = (1 - bit) + (2 * bit - 1) * (place - floor).unsqueeze(-2)
    row_weight, column_weight = torch.where(within == at, weight, 0.0).unbind()
    step = torch.stack((cells.last[1] + 1, torch.ones_like(cells.first)))  # from one row, and one column, to the next
    row, column = (within * step[:, None, None, None]).unbind()
    # Of the four cells, by the index of the row and that of the column.
    index = row.unsqueeze(-2) + column.unsqueeze(-3) + cells.first  # [B, K, 2, 2, P]
    value = values.gather(2, index.long().flatten(2)).view(*values.shape[:2], 4, -1)
    weights = (row_weight.unsqueeze(-2) * column_weight.unsqueeze(-3)).flatten(2, 3)
    return (weights * value).sum(2)

"""The highest IoU that predicted boxes have with any object of their image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aweigh.train.kernels.focal import at_once
from aweigh.train.kernels.operators import register

# Points whose boxes a CPU compares with the truths at once: the comparison stays in its cache.
_SLICE = 512


def _covered(
    boxes_xyxy: Tensor,
    cell: Tensor,
    truths_xyxy: Tensor,
    counts: Sequence[int],
    points_xy: Tensor,
    stride: Tensor,
    eps: float,
) -> Tensor:
    if not len(cell):
        return boxes_xyxy.new_zeros(0)
    if at_once(len(boxes_xyxy) * max(counts), cell.device):
        return _of_all(boxes_xyxy, truths_xyxy, counts, eps).index_select(0, cell)
    best = boxes_xyxy.new_zeros(len(boxes_xyxy))
    wanted = torch.zeros(len(boxes_xyxy), dtype=torch.bool, device=cell.device)
    wanted[cell] = True
    tiles = _tiles(points_xy, stride)
    for image, (rows, truths) in enumerate(
        zip(wanted.view(len(counts), -1), torch.split(truths_xyxy, list(counts)), strict=True)
    ):
        point = torch.nonzero(rows)[:, 0]
        point = point[torch.argsort(tiles.index_select(0, point))]
        for row in torch.split(point + image * len(points_xy), _SLICE) if len(point) else ():
            boxes = boxes_xyxy.index_select(0, row)
            # Neighbours predict neighbouring boxes: most truths of a crowd cannot meet a tile's.
            low, high = boxes[:, :2].amin(dim=0), boxes[:, 2:].amax(dim=0)
            near = ((truths[:, :2] < high) & (truths[:, 2:] > low)).all(dim=1)
            best[row] = highest_iou(boxes, truths[near], eps) if near.any() else 0.0
    return best.index_select(0, cell)


def _of_all(boxes_xyxy: Tensor, truths_xyxy: Tensor, counts: Sequence[int], eps: float) -> Tensor:
    """[B * P] by one table of every point with every truth of its image."""
    most = max(counts)
    # Boxes without area fill up; their overlap with any other is 0.
    padded = boxes_xyxy.new_zeros(len(counts), most, 4)
    for image, truths in enumerate(torch.split(truths_xyxy, list(counts))):
        padded[image, : len(truths)] = truths
    return highest_iou(boxes_xyxy.view(len(counts), -1, 4), padded, eps).flatten()


def highest_iou(boxes_xyxy: Tensor, others_xyxy: Tensor, eps: float = 1e-6) -> Tensor:
    """[..., n] highest IoU of each box [..., n, 4] with any other [..., k, 4], k at least 1; makes tables of n x k."""
    a, b = boxes_xyxy[..., None, :].unbind(-1), others_xyxy.mT.contiguous()[..., None, :].unbind(-3)
    overlap = torch.minimum(a[2], b[2]).sub_(torch.maximum(a[0], b[0])).clamp_(min=0)
    overlap *= torch.minimum(a[3], b[3]).sub_(torch.maximum(a[1], b[1])).clamp_(min=0)
    union = ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])).sub_(overlap).clamp_(min=eps)
    return overlap.div_(union).amax(dim=-1)


def _tiles(points_xy: Tensor, stride: Tensor) -> Tensor:
    """[P] int64 that orders the points by level, then by tiles of 16 x 16."""
    place = (points_xy / (16 * stride[:, None])).floor().long()
    return (stride.long() * 4096 + place[:, 1]) * 4096 + place[:, 0]


# [N] of the boxes of some cells [N] among those of all, [B * P, 4]; the truths [G, 4] lie image by image, ``counts``
# of each; ``points_xy`` [P, 2] and ``stride`` [P] say which cells are neighbours.
covered_cells = register(
    "covered_cells(Tensor boxes_xyxy, Tensor cell, Tensor truths_xyxy, SymInt[] counts, Tensor points_xy, "
    "Tensor stride, float eps) -> Tensor",
    _covered,
    "cover:covered_cells",
    launches=1,
)

"""Candidates as a list of (point, truth) pairs, and reductions over the pairs of each truth.

Only the points inside a box matter to its truth. Cost and memory follow the pairs; no tensor of all points times all
truths is ever made, so that a crowd stays cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aweigh.train.dense.points import Points
from aweigh.train.methods.values import Targets

# (boxes_xyxy [G, 4], stride) -> boxes [G, 4]
Region = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Pairs:
    """(point, truth) pairs.

    Attributes:
        point: [N] int64, 0 to P-1.
        truth: [N] int64, 0 to G-1.
        image: [N] int64, 0 to B-1.
        truths: G.
    """

    point: Tensor
    truth: Tensor
    image: Tensor
    truths: int

    def __len__(self) -> int:
        return len(self.point)

    def take(self, keep: Tensor) -> Pairs:
        """The pairs of a mask or of indices."""
        index = torch.nonzero(keep)[:, 0] if keep.dtype is torch.bool else keep
        point, truth, image = (t.index_select(0, index) for t in (self.point, self.truth, self.image))
        return Pairs(point, truth, image, self.truths)

    def join(self, others: Pairs) -> Pairs:
        """These pairs and others of the same truths."""
        columns = zip((self.point, self.truth, self.image), (others.point, others.truth, others.image), strict=True)
        point, truth, image = (torch.cat(both) for both in columns)
        return Pairs(point, truth, image, self.truths)

    def cell(self, num_points: int) -> Tensor:
        """[N] flat index of (image, point)."""
        return self.image * num_points + self.point

    def of_truth(self, values: Tensor) -> Tensor:
        """[N, ...] values of each pair's truth, from those of all truths [G, ...]."""
        return values.index_select(0, self.truth)

    def at_point(self, values: Tensor) -> Tensor:
        """[N, ...] values of each pair's point, from those of all points [P, ...]."""
        return values.index_select(0, self.point)

    def from_centre(self, points: Points, targets: Targets, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """x and y [N] of each pair's point, seen from its truth's centre, in strides of the point's level."""
        boxes, stride = targets.boxes_xyxy.to(dtype), self.at_point(points.stride).to(dtype)
        return tuple(  # type: ignore[return-value]
            (self.at_point(points.xy[:, axis]).to(dtype) - self.of_truth((boxes[:, axis] + boxes[:, axis + 2]) / 2))
            / stride
            for axis in (0, 1)
        )

    def best(self, values: Tensor) -> Tensor:
        """[N] bool: the pair of the largest value of each truth, the first of equals."""
        place = torch.arange(len(self), device=values.device)
        tied = torch.where(values == self.of_truth(self.max(values)), place, len(self))
        return self.of_truth(self.min_index(tied)) == place

    def log_sum_exp(self, values: Tensor) -> Tensor:
        """[G]; finite for a truth without pairs, too."""
        highest = self.max(values.detach()).clamp(min=torch.finfo(values.dtype).min)
        return highest + self.sum((values - self.of_truth(highest)).exp()).clamp(min=1e-30).log()

    def sum(self, values: Tensor) -> Tensor:
        """[G] sum over the pairs of each truth; 0 for a truth without pairs."""
        return values.new_zeros(self.truths).index_add(0, self.truth, values)

    def max(self, values: Tensor) -> Tensor:
        """[G]; minus infinity for a truth without pairs."""
        return self._reduce(values, "amax", -torch.inf)

    def min(self, values: Tensor) -> Tensor:
        """[G]; infinity for a truth without pairs."""
        return self._reduce(values, "amin", torch.inf)

    def rank(self, values: Tensor) -> Tensor:
        """[N] place of each pair among those of its truth, 0 for the largest value; ties keep the pairs' order."""
        return rank_within(self.truth, values)

    def min_index(self, index: Tensor) -> Tensor:
        """[G] least of some indices (int64 up to N) of each truth; N for a truth without pairs."""
        start = index.new_full((self.truths,), len(self))
        return start.scatter_reduce(0, self.truth, index, reduce="amin")

    def _reduce(self, values: Tensor, how: str, empty: float) -> Tensor:
        start = values.new_full((self.truths,), empty)
        return start.scatter_reduce(0, self.truth, values, reduce=how, include_self=False)


def inside_pairs(points: Points, targets: Targets, region: Region | None = None) -> Pairs:
    """Pairs in which the point lies strictly inside the truth's box (all four distances > 0).

    Args:
        region: boxes that the point must also lie strictly inside of, for centre sampling.
    """

    def bounds(boxes_xyxy: Tensor, stride: int) -> Tensor:
        return boxes_xyxy if region is None else _meet(boxes_xyxy, region(boxes_xyxy, stride))

    return pairs_within(points, targets, bounds)


def pairs_within(points: Points, targets: Targets, bounds_of: Region) -> Pairs:
    """Pairs in which the point lies strictly inside the bounds that each level gives to the truth."""
    point, truth = [], []
    first = 0
    for (rows, columns), stride in zip(points.shapes_hw, points.strides, strict=True):
        cells, owner = _cells(bounds_of(targets.boxes_xyxy, stride), rows, columns, stride, points.offset)
        point.append(first + cells)
        truth.append(owner)
        first += rows * columns
    all_truths = torch.cat(truth)
    return Pairs(torch.cat(point), all_truths, targets.image.index_select(0, all_truths), len(targets))


def nearest_pairs(points: Points, targets: Targets, truths: Tensor) -> Pairs:
    """Some truths [n] with the point of the finest level that is nearest to their centre."""
    (rows, columns), stride = points.shapes_hw[0], points.strides[0]
    boxes = targets.boxes_xyxy[truths]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    place = (centre / stride - points.offset).round().long()
    column, row = place[:, 0].clamp(0, columns - 1), place[:, 1].clamp(0, rows - 1)
    return Pairs(row * columns + column, truths, targets.image[truths], len(targets))


def rank_within(group: Tensor, values: Tensor) -> Tensor:
    """[N] place of each value in its group (int64 from 0), 0 for the largest; equal values keep their order."""
    order = torch.argsort(values, descending=True, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    counts = torch.bincount(group)
    first = counts.cumsum(0) - counts
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device) - first[group[order]]
    return place


def last_truth_wins(pairs: Pairs, labels: Tensor, num_points: int, num_classes: int) -> Tensor:
    """[N] bool: of the pairs that write to the same (image, point, class), the one of the last truth.

    The authors of DW and AutoAssign write with duplicate indices; on a CPU the last write stays.
    """
    unique, inverse = torch.unique(pairs.cell(num_points) * num_classes + labels, return_inverse=True)
    winner = torch.zeros_like(unique).scatter_reduce(0, inverse, pairs.truth, reduce="amax", include_self=False)
    return winner.index_select(0, inverse) == pairs.truth


def centre_region(radius: float) -> Region:
    """The square of ``radius`` strides around each box's centre (FCOS' centre sampling)."""

    def region(boxes_xyxy: Tensor, stride: int) -> Tensor:
        centre = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
        return torch.cat((centre - radius * stride, centre + radius * stride), dim=1)

    return region


def sole_owner(pairs: Pairs, merit: Tensor, cell: Tensor) -> Tensor:
    """[N] bool: a cell that several truths claim stays with the one of the highest merit, the first of equals.

    Args:
        cell: [N] what is claimed: a point of an image (:meth:`Pairs.cell`), or a class at it.
    """
    unique, inverse = torch.unique(cell, return_inverse=True)
    highest = merit.new_zeros(len(unique)).scatter_reduce(0, inverse, merit, "amax", include_self=False)
    ties = torch.where(merit == highest.index_select(0, inverse), pairs.truth, pairs.truths)
    first = ties.new_zeros(len(unique)).scatter_reduce(0, inverse, ties, "amin", include_self=False)
    return pairs.truth == first.index_select(0, inverse)


def centerness(ltrb: Tensor) -> Tensor:
    """[N] sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of distances [N, 4] > 0; 1 at the centre."""
    low = torch.minimum(ltrb[:, :2], ltrb[:, 2:])
    high = torch.maximum(ltrb[:, :2], ltrb[:, 2:])
    return (low / high).prod(dim=1).sqrt()


def _meet(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    return torch.cat((torch.maximum(a_xyxy[:, :2], b_xyxy[:, :2]), torch.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:])), dim=1)


def _cells(bounds_xyxy: Tensor, rows: int, columns: int, stride: int, offset: float) -> tuple[Tensor, Tensor]:
    """Cells [N] (row-major) whose points lie strictly inside, and their truths [N].

    Strides are powers of two, so that dividing by them is exact, and a side that falls on a point is seen to.
    """
    limit = bounds_xyxy.new_tensor([columns, rows])
    low = ((bounds_xyxy[:, :2] / stride - offset).floor() + 1).clamp(min=0).minimum(limit).long()
    high = ((bounds_xyxy[:, 2:] / stride - offset).ceil() - 1).clamp(min=-1).minimum(limit - 1).long()
    size = (high - low + 1).clamp(min=0)  # [G, 2] columns, rows
    count = size[:, 0] * size[:, 1]
    truth = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    nth = torch.arange(len(truth), device=count.device) - (count.cumsum(0) - count).index_select(0, truth)
    width = size[:, 0].index_select(0, truth)
    row = torch.div(nth, width, rounding_mode="floor")
    first = low[:, 1] * columns + low[:, 0]
    return first.index_select(0, truth) + row * (columns - width) + nth, truth

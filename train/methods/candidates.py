"""Candidates as a list of (point, truth) pairs, and reductions over the pairs of each truth.

Only the points inside a box matter to its truth. Cost and memory follow the pairs; no tensor of all points times all
truths is ever made, so that a crowd stays cheap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aweigh.train.dense.points import Points
from aweigh.train.kernels.overlap import columns_at
from aweigh.train.methods.values import Targets


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

    def from_centre(self, points: Points, targets: Targets, dtype: torch.dtype) -> Tensor:
        """x and y [2, N] of each pair's point, seen from its truth's centre, in strides of the point's level."""
        boxes, stride = targets.boxes_xyxy.to(dtype), self.at_point(points.stride).to(dtype)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        return (columns_at(points.xy.to(dtype).t(), self.point) - columns_at(centre.t(), self.truth)) / stride

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

    def sums(self, values: Tensor) -> Tensor:
        """[k, G] as :meth:`sum`, of k values [k, N] of each pair."""
        return values.new_zeros(len(values), self.truths).index_add(1, self.truth, values)

    def max(self, values: Tensor) -> Tensor:
        """[G]; minus infinity for a truth without pairs."""
        return self._reduce(values, "amax", -torch.inf)

    def min(self, values: Tensor) -> Tensor:
        """[G]; infinity for a truth without pairs."""
        return self._reduce(values, "amin", torch.inf)

    def rank(self, values: Tensor) -> Tensor:
        """[N] place of each pair among those of its truth, 0 for the largest value; ties keep the pairs' order."""
        return rank_within(self.truth, values, self.truths)

    def min_index(self, index: Tensor) -> Tensor:
        """[G] least of some indices (int64 up to N) of each truth; N for a truth without pairs."""
        start = index.new_full((self.truths,), len(self))
        return start.scatter_reduce(0, self.truth, index, reduce="amin")

    def _reduce(self, values: Tensor, how: str, empty: float) -> Tensor:
        start = values.new_full((self.truths,), empty)
        return start.scatter_reduce(0, self.truth, values, reduce=how, include_self=False)


def rank_within(group: Tensor, values: Tensor, groups: int) -> Tensor:
    """[N] place of each value in its group (int64 below ``groups``), 0 for the largest; ties keep their order."""
    order = torch.argsort(values, descending=True, stable=True)
    sorted_group, again = torch.sort(group.index_select(0, order), stable=True)
    order = order.index_select(0, again)
    place = torch.arange(len(order), device=order.device)
    start = place.new_full((groups,), len(order)).scatter_reduce_(0, sorted_group, place, reduce="amin")
    return torch.empty_like(order).index_copy_(0, order, place - start.index_select(0, sorted_group))


def last_truth_wins(pairs: Pairs, labels: Tensor, num_points: int, num_classes: int) -> Tensor:
    """[N] bool: of the pairs that write to the same (image, point, class), the one of the last truth.

    The authors of DW and AutoAssign write with duplicate indices; on a CPU the last write stays.
    """
    place = pairs.cell(num_points) * num_classes + labels
    # Sorted by place, then by truth, the last of each place wins. (A table of all places would be as large as the
    # logits, and a list of those that occur has a size that the host would wait for.)
    ordered, order = torch.sort(place * pairs.truths + pairs.truth)
    written = torch.div(ordered, pairs.truths, rounding_mode="floor") if pairs.truths else ordered
    last = torch.ones_like(written, dtype=torch.bool)
    torch.ne(written[1:], written[:-1], out=last[:-1])
    return torch.empty_like(last).index_copy_(0, order, last)


def sole_owner(pairs: Pairs, merit: Tensor, cell: Tensor, cells: int) -> Tensor:
    """[N] bool: a cell that several truths claim stays with the one of the highest merit, the first of equals.

    Args:
        cell: [N] what is claimed, 0 to ``cells - 1``: a point of an image (:meth:`Pairs.cell`).
    """
    highest = merit.new_full((cells,), -torch.inf).scatter_reduce_(0, cell, merit, "amax")
    ties = torch.where(merit == highest.index_select(0, cell), pairs.truth, pairs.truths)
    first = ties.new_full((cells,), pairs.truths).scatter_reduce_(0, cell, ties, "amin")
    return pairs.truth == first.index_select(0, cell)


def centerness(ltrb: Tensor) -> Tensor:
    """[N] sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of distances [N, 4] > 0; 1 at the centre."""
    low = torch.minimum(ltrb[:, :2], ltrb[:, 2:])
    high = torch.maximum(ltrb[:, :2], ltrb[:, 2:])
    return (low / high).prod(dim=1).sqrt()

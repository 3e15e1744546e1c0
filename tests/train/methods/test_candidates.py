"""Pairs against the dense table they replace."""

from __future__ import annotations

import pytest
import torch

from aweigh.train.dense.boxes import xyxy_to_ltrb
from aweigh.train.dense.points import make_points
from aweigh.train.methods.candidates import (
    Pairs,
    last_truth_wins,
    sole_owner,
)
from aweigh.train.methods.listing import centre_region, inside_pairs, nearest_pairs
from aweigh.train.methods.values import Targets


def pairs_of(point: list[int], truth: list[int], truths: int) -> Pairs:
    return Pairs(torch.tensor(point), torch.tensor(truth), torch.zeros(len(point), dtype=torch.long), truths)


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_inside_pairs_equal_the_dense_table(offset: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    points = make_points([(13, 17), (7, 9), (4, 5)], [8, 16, 32], offset)
    low = torch.rand(40, 2, generator=generator) * 160 - 20
    boxes = torch.cat((low, low + torch.rand(40, 2, generator=generator) ** 3 * 150), dim=1)
    # Sides that fall exactly on points: strictly inside excludes those.
    boxes[:10] = (boxes[:10] / 8).round() * 8 + offset * 8
    targets = Targets.join([boxes[:25], boxes[25:]], [torch.zeros(25), torch.zeros(15)])
    pairs = inside_pairs(points, targets)
    dense = (xyxy_to_ltrb(points.xy[:, None], boxes) > 0).all(dim=2)
    found = torch.zeros_like(dense)
    found[pairs.point, pairs.truth] = True
    assert torch.equal(found, dense)
    assert len(pairs) == int(dense.sum()), "a pair must not appear twice"
    assert torch.equal(pairs.image, (pairs.truth >= 25).long())


def test_centre_region_limits_the_pairs() -> None:
    points = make_points([(16, 16)], [8], 0.5)
    targets = Targets.join([torch.tensor([[0.0, 0.0, 128.0, 128.0]])], [torch.zeros(1)])
    pairs = inside_pairs(points, targets, centre_region(1.5))
    assert len(pairs) == 4  # the centre is a corner of four cells; 12 px reach one point each way
    assert (points.xy[pairs.point] - 64).abs().max() < 12


def test_no_truths() -> None:
    points = make_points([(4, 4)], [8], 0.5)
    pairs = inside_pairs(points, Targets.join([torch.zeros(0, 4)], [torch.zeros(0)]))
    assert len(pairs) == 0
    assert pairs.sum(torch.zeros(0)).shape == (0,)


def test_reductions_and_rank() -> None:
    pairs = pairs_of([0, 1, 2, 3, 4], [0, 2, 0, 2, 2], truths=4)
    values = torch.tensor([1.0, 5.0, 3.0, 2.0, 5.0])
    assert pairs.sum(values).tolist() == [4.0, 0.0, 12.0, 0.0]
    assert pairs.max(values).tolist() == [3.0, -torch.inf, 5.0, -torch.inf]
    assert pairs.min(values).tolist() == [1.0, torch.inf, 2.0, torch.inf]
    assert pairs.rank(values).tolist() == [1, 0, 0, 2, 1]


def test_last_truth_wins_per_point_and_class() -> None:
    pairs = pairs_of([7, 7, 7, 8], [0, 1, 2, 0], truths=3)
    wins = last_truth_wins(pairs, torch.tensor([4, 4, 5, 4]), num_points=10, num_classes=6)
    assert wins.tolist() == [False, True, True, True]


def test_sole_owner_takes_the_highest_merit_and_the_first_of_equals() -> None:
    pairs = pairs_of([7, 7, 8, 8, 9], [0, 1, 0, 1, 1], truths=2)
    owner = sole_owner(pairs, torch.tensor([0.1, 0.9, 0.5, 0.5, 0.0]), pairs.cell(10), 20)
    assert owner.tolist() == [False, True, True, False, True]


def test_best_is_one_pair_per_truth_the_first_of_equals() -> None:
    pairs = pairs_of([0, 1, 2, 3, 4], [0, 2, 0, 2, 2], truths=4)
    assert pairs.best(torch.tensor([1.0, 5.0, 3.0, 2.0, 5.0])).tolist() == [False, True, True, False, False]


def test_log_sum_exp_of_each_truth() -> None:
    pairs = pairs_of([0, 1, 2], [0, 0, 2], truths=3)
    values = torch.tensor([-1000.0, -1001.0, 2.0], requires_grad=True)
    found = pairs.log_sum_exp(values)
    torch.testing.assert_close(found[[0, 2]], torch.stack((values[:2].logsumexp(0), values[2])))
    assert torch.isfinite(found[1]), "a truth without pairs"
    (grad,) = torch.autograd.grad(found[0], values)
    torch.testing.assert_close(grad, torch.tensor([0.7311, 0.2689, 0.0]), atol=1e-4, rtol=0)


def test_nearest_point_of_the_finest_level_within_the_picture() -> None:
    points = make_points([(4, 6), (2, 3)], [8, 16], 0.5)
    boxes = torch.tensor([[17.0, 9.0, 18.0, 10.0], [-30.0, 90.0, -20.0, 95.0], [0.0, 0.0, 1.0, 1.0]])
    targets = Targets.join([boxes[:1], boxes[1:]], [torch.zeros(1), torch.zeros(2)])
    pairs = nearest_pairs(points, targets)
    assert points.xy[pairs.point].tolist() == [[20.0, 12.0], [4.0, 28.0], [4.0, 4.0]]
    assert pairs.truth.tolist() == [0, 1, 2]
    assert pairs.image.tolist() == [0, 1, 1]
    assert pairs.truths == 3


def test_from_centre_counts_in_strides() -> None:
    points = make_points([(2, 2), (1, 1)], [8, 16], 0.5)
    targets = Targets.join([torch.tensor([[0.0, 0.0, 16.0, 16.0]])], [torch.zeros(1)])
    pairs = inside_pairs(points, targets)
    x, y = pairs.from_centre(points, targets, torch.float64)
    assert x.tolist() == [-0.5, 0.5, -0.5, 0.5, 0.0]
    assert y.tolist() == [-0.5, -0.5, 0.5, 0.5, 0.0]

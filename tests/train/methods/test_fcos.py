"""FCOS' assignment on cases worked by hand."""

from __future__ import annotations

import torch

from aweigh.train.dense.points import make_points
from aweigh.train.methods import Targets
from aweigh.train.methods.fcos import FCOS


def test_size_decides_the_level() -> None:
    method = FCOS(1)
    points = make_points([(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)], [8, 16, 32, 64, 128], 0.5)
    for side, level in ((60.0, 0), (150.0, 1), (300.0, 2)):
        box = torch.tensor([[128 - side / 2, 128 - side / 2, 128 + side / 2, 128 + side / 2]])
        pairs, _ = method.assign(points, Targets.join([box], [torch.tensor([0])]))
        assert len(pairs) > 0
        assert set(points.levels()[pairs.point].tolist()) == {level}


def test_a_point_in_two_boxes_belongs_to_the_smaller() -> None:
    method = FCOS(1)
    points = make_points([(16, 16)], [8], 0.5)
    boxes = torch.tensor([[10.0, 10.0, 110.0, 110.0], [40.0, 40.0, 80.0, 80.0]])
    pairs, ltrb = method.assign(points, Targets.join([boxes], [torch.tensor([0, 0])]))
    shared = (points.xy[pairs.point] - 60).abs().amax(dim=1) < 12
    assert shared.any()
    assert set(pairs.truth[shared].tolist()) == {1}
    assert pairs.point.unique().numel() == len(pairs)
    assert (ltrb > 0).all()

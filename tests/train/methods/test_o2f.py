"""O2F's assignment on cases worked by hand."""

from __future__ import annotations

import pytest
import torch

from aweigh.train.dense.points import make_points
from aweigh.train.methods import Predictions, Targets
from aweigh.train.methods.o2f import O2F


def test_certain_and_ambiguous_points() -> None:
    """Three points in a row in the centre region of one box; boxes perfect, scores 0.25, 0.2, 0.1 in that order."""
    method = O2F(1)
    points = make_points([(1, 3)], [8], 0.5)
    targets = Targets.join([torch.tensor([[0.0, 0.0, 24.0, 8.0]])], [torch.tensor([0])])
    reg = torch.tensor([[[4.0, 4.0, 20.0, 4.0], [12.0, 4.0, 12.0, 4.0], [20.0, 4.0, 4.0, 4.0]]])
    cls_logits = torch.logit(torch.tensor([0.5, 0.4, 0.2])).reshape(1, 3, 1)
    chosen = method.assign(Predictions(cls_logits, reg, torch.zeros(1, 3)), points, targets, progress=0.5)
    by_point = dict(zip(chosen.kept.point.tolist(), chosen.soft_label.tolist(), strict=True))
    # s over the best ambiguous score, times T(0.5) = 0.4
    assert by_point == pytest.approx({0: 1.0, 1: 0.4, 2: 0.4 * 0.1 / 0.2})
    weights = dict(zip(chosen.kept.point.tolist(), chosen.soft_weight.tolist(), strict=True))
    assert weights == pytest.approx({0: 1.0, 1: 0.4, 2: 0.4})


def test_at_most_seven_points_per_truth() -> None:
    method = O2F(1)
    points = make_points([(8, 8), (4, 4), (2, 2)], [8, 16, 32], 0.5)
    targets = Targets.join([torch.tensor([[0.0, 0.0, 64.0, 64.0]])], [torch.tensor([0])])
    reg = torch.cat((points.xy, 64 - points.xy), dim=1)[None]
    chosen = method.assign(
        Predictions(torch.zeros(1, len(points.xy), 1), reg, torch.zeros(1, len(points.xy))), points, targets, 0.0
    )
    assert len(chosen.kept) == 7
    assert (chosen.soft_label == 1).sum() == 1


def test_temperature_falls_linearly() -> None:
    method = O2F(1)
    assert [method.temperature(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.6, 0.4, 0.2])


def test_centerness_branch_has_its_own_convolutions() -> None:
    branch = next(b for b in O2F(1).branches() if b.name == "obj")
    assert branch.extra_convs == 3

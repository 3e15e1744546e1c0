"""AutoAssign on cases worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from aweigh.train.dense.points import make_points
from aweigh.train.kernels import focal
from aweigh.train.methods import Predictions, Targets
from aweigh.train.methods.autoassign import AutoAssign, best_iou
from aweigh.train.methods.listing import inside_pairs


def test_positive_weights_sum_to_one_and_follow_prior_and_confidence() -> None:
    method = AutoAssign(1)
    points = make_points([(2, 3)], [8], 0.0)
    targets = Targets.join([torch.tensor([[-1.0, -1.0, 17.0, 9.0]])], [torch.tensor([0])])
    reg = torch.cat((points.xy + 1, torch.tensor([17.0, 9.0]) - points.xy), dim=1)[None]
    with torch.no_grad():
        weights = method.weigh(Predictions(torch.zeros(1, 6, 1), reg, torch.zeros(1, 6)), points, targets)
    assert float(weights.positive_weight.sum()) == pytest.approx(1.0)
    assert weights.joint.tolist() == pytest.approx([0.25] * 6)  # perfect boxes, both probabilities one half
    offsets = ((points.xy - torch.tensor([8.0, 4.0])) / 8).square().sum(dim=1) / 2
    assert weights.prior.tolist() == pytest.approx([math.exp(-float(o)) for o in offsets])
    assert weights.positive_weight.tolist() == pytest.approx((weights.prior / weights.prior.sum()).tolist())


def test_priors_are_learned() -> None:
    method = AutoAssign(2)
    points = make_points([(8, 8)], [8], 0.0)
    targets = Targets.join([torch.tensor([[5.0, 5.0, 50.0, 40.0]])], [torch.tensor([1])])
    generator = torch.Generator().manual_seed(0)
    predictions = Predictions(
        torch.randn(1, 64, 2, generator=generator),
        torch.rand(1, 64, 4, generator=generator) * 30,
        torch.zeros(1, 64),
    )
    sum(method.loss(predictions, points, targets, 0.0).values()).backward()  # type: ignore[union-attr]
    assert method.mu.grad is not None
    assert method.sigma.grad is not None
    assert (method.mu.grad[1] != 0).all()
    assert (method.mu.grad[0] == 0).all(), "a class without objects learns nothing"
    assert (method.sigma.grad[1] != 0).all()


@pytest.mark.parametrize("at_most", [0, 1 << 60])
def test_best_iou_looks_at_every_truth_of_the_image(monkeypatch: pytest.MonkeyPatch, at_most: int) -> None:
    """The box of a point inside one truth may fit another truth better; in slices and at once."""
    monkeypatch.setattr(focal, "_PASS_ELEMENTS", at_most)
    points = make_points([(4, 4)], [8], 0.0)
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [16.0, 16.0, 30.0, 30.0]])
    targets = Targets.join([boxes, boxes[:1]], [torch.zeros(2), torch.zeros(1)])
    pairs = inside_pairs(points, targets)
    predicted = torch.tensor([16.0, 16.0, 30.0, 30.0]).expand(2 * 16, 4)
    found = best_iou(predicted, pairs.cell(16), points, targets)
    assert found[pairs.image == 0].tolist() == pytest.approx([1.0] * int((pairs.image == 0).sum()))
    assert found[pairs.image == 1].tolist() == pytest.approx([0.0] * int((pairs.image == 1).sum()))


def test_best_iou_is_the_same_in_slices_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    points = make_points([(40, 40), (20, 20)], [8, 16], 0.0)
    low = torch.rand(3, 9, 2, generator=generator) * 250
    boxes = torch.cat((low, low + 40 + torch.rand(3, 9, 2, generator=generator) * 100), dim=2)
    # The middle image has none, the last one fewer than the first.
    targets = Targets.join([boxes[0], boxes[1, :0], boxes[2, :4]], [torch.zeros(9), torch.zeros(0), torch.zeros(4)])
    start = torch.rand(3 * 2000, 2, generator=generator) * 250
    predicted = torch.cat((start, start + 1 + torch.rand(3 * 2000, 2, generator=generator) * 80), dim=1)
    cell = inside_pairs(points, targets).cell(2000)
    found = []
    for at_most in (0, 1 << 60):
        monkeypatch.setattr(focal, "_PASS_ELEMENTS", at_most)
        found.append(best_iou(predicted, cell, points, targets))
    assert len(cell) > 512
    assert float(found[0].max()) > 0.3
    assert torch.equal(*found)

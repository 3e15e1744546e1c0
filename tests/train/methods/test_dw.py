"""DW's equations on a case small enough for pencil and paper, and its refinement."""

from __future__ import annotations

import math

import pytest
import torch

from aweigh.train.dense.points import make_points
from aweigh.train.methods import Predictions, Targets, make_method
from aweigh.train.methods.dw import DW, refine


def test_weights_of_one_box_with_two_points() -> None:
    """One 16x8 box over two points, both predicting it perfectly, scores 0.5 * 0.5 and 0.5 * 0.5."""
    method = DW(1)
    points = make_points([(1, 2)], [8], 0.5)
    targets = Targets.join([torch.tensor([[0.0, 0.0, 16.0, 8.0]])], [torch.tensor([0])])
    reg = torch.tensor([[[4.0, 4.0, 12.0, 4.0], [12.0, 4.0, 4.0, 4.0]]])
    weights = method.weigh(Predictions(torch.zeros(1, 2, 1), reg, torch.zeros(1, 2)), points, targets)
    prior = math.exp(-(0.5**2) / (2 * 1.11**2))
    assert weights.prior.tolist() == pytest.approx([prior, prior])
    assert weights.iou.tolist() == pytest.approx([1.0, 1.0])
    expected = math.exp(5 * 0.25) / (2 * math.exp(3 * 0.25))  # p = 0.25; p and G cancel
    assert weights.positive_weight.tolist() == pytest.approx([expected, expected])
    assert weights.negative_share.tolist() == pytest.approx([1.0, 1.0])  # all equally good: 1e-12 / 1e-12


def test_negative_share_falls_from_one_at_the_floor_to_zero_at_the_best_point() -> None:
    method = DW(1)
    points = make_points([(1, 3)], [8], 0.5)
    targets = Targets.join([torch.tensor([[0.0, 0.0, 24.0, 8.0]])], [torch.tensor([0])])
    # Boxes from x = 0 to 24, 18 and 6 pixels: IoU 1, 0.75, 0.25.
    reg = torch.tensor([[[4.0, 4.0, 20.0, 4.0], [12.0, 4.0, 6.0, 4.0], [20.0, 4.0, -14.0, 4.0]]])
    weights = method.weigh(Predictions(torch.zeros(1, 3, 1), reg, torch.zeros(1, 3)), points, targets)
    assert weights.iou.tolist() == pytest.approx([1.0, 0.75, 0.25])
    middle = (1 - 0.75**2) * 4 / 3  # the highest of the three is clamped at 1, the lowest is 0
    assert weights.negative_share.tolist() == pytest.approx([0.0, middle, 1.0], abs=1e-6)


def test_refinement_without_offsets_reads_the_boxes_at_their_sides() -> None:
    """Every cell predicts the same absolute box: refinement finds it again wherever the sides lie on the map."""
    rows, columns, stride = 8, 8, 8
    points = make_points([(rows, columns)], [stride], 0.5)
    box = torch.tensor([12.0, 20.0, 52.0, 44.0])
    ltrb = torch.cat((points.xy - box[:2], box[2:] - points.xy), dim=1).T.reshape(1, 4, rows, columns) / stride
    refined = refine(ltrb.clamp(min=0).flatten(2), torch.zeros(1, 8, rows * columns), points)
    at = 3 * columns + 4  # a cell inside the box
    torch.testing.assert_close(refined[0, :, at], ltrb.flatten(2)[0, :, at] * stride)


def test_refinement_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    points = make_points([(5, 6), (3, 3)], [8, 16], 0.5, dtype=torch.float64)
    distances = (torch.rand(1, 4, 39, generator=generator, dtype=torch.float64) * 2 + 0.1).requires_grad_()
    offset = (torch.randn(1, 8, 39, generator=generator, dtype=torch.float64) * 0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda d, o: refine(d, o, points), (distances, offset), eps=1e-7, atol=1e-4)


def test_each_level_is_refined_on_its_own_map() -> None:
    generator = torch.Generator().manual_seed(1)
    shapes, strides = [(5, 6), (3, 3), (1, 2)], [8, 16, 32]
    points = make_points(shapes, strides, 0.5)
    distances = torch.rand(2, 4, len(points.xy), generator=generator) * 4
    offset = torch.randn(2, 8, len(points.xy), generator=generator)
    refined, start = refine(distances, offset, points), 0
    for shape_hw, stride in zip(shapes, strides, strict=True):
        own = slice(start, start + shape_hw[0] * shape_hw[1])
        alone = refine(distances[..., own], offset[..., own], make_points([shape_hw], [stride], 0.5))
        torch.testing.assert_close(refined[..., own], alone, rtol=0, atol=0)
        start = own.stop


def test_no_refine_has_no_offset_branch() -> None:
    assert "offset" in {b.name for b in make_method("dw", 2).branches()}
    assert "offset" not in {b.name for b in make_method("dw", 2, {"refine": False}).branches()}


@pytest.mark.parametrize(
    ("options", "held"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"bag": "threshold", "radius": 1.5}, [1, 2, 3]),
        ({"bag": "top-k", "nearest": 1}, [2]),
        ({"bag": "top-k", "nearest": 4}, [0, 1, 2, 3]),  # of the two at equal distance, the first
    ],
)
def test_candidate_bags(options: dict[str, object], held: list[int]) -> None:
    """Points of one row at -2 to 2 strides from the centre of a box that holds them all (Table 4)."""
    method = make_method("dw", 1, options)
    assert isinstance(method, DW)
    points = make_points([(1, 5)], [8], 0.5)
    targets = Targets.join([torch.tensor([[0.0, 0.0, 40.0, 8.0]])], [torch.tensor([0])])
    weights = method.weigh(
        Predictions(torch.zeros(1, 5, 1), torch.full((1, 5, 4), 8.0), torch.zeros(1, 5)), points, targets
    )
    assert weights.pairs.point.tolist() == held
    if options:
        assert (weights.prior == 1).all()

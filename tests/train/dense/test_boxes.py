"""Box arithmetic: tables worked by hand, the empty case first."""

from __future__ import annotations

import pytest
import torch

from aweigh.train.dense.boxes import iou, iou_and_giou, ltrb_to_xyxy, paired_iou_and_giou, xyxy_to_ltrb
from aweigh.train.kernels.cover import highest_iou


def test_empty() -> None:
    empty = torch.zeros(0, 4)
    assert iou(empty, empty).shape == (0,)
    assert ltrb_to_xyxy(torch.zeros(0, 2), empty).shape == (0, 4)


def test_coding_round_trip() -> None:
    generator = torch.Generator().manual_seed(0)
    points, boxes = torch.rand(50, 2, generator=generator) * 100, torch.rand(50, 4, generator=generator) * 100
    torch.testing.assert_close(ltrb_to_xyxy(points, xyxy_to_ltrb(points, boxes)), boxes)


@pytest.mark.parametrize(
    ("a", "b", "expected_iou", "expected_giou"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1.0, 1.0),
        ([0, 0, 2, 2], [1, 0, 3, 2], 2 / 6, 2 / 6),  # the enclosing box is the union
        ([0, 0, 1, 1], [2, 0, 3, 1], 0.0, -1 / 3),
        ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7, 1 / 7 - 2 / 9),
        ([1, 1, 1, 1], [1, 1, 1, 1], 0.0, 0.0),  # no area at all
    ],
)
def test_iou_and_giou(a: list[float], b: list[float], expected_iou: float, expected_giou: float) -> None:
    overlap, generalised = iou_and_giou(torch.tensor([a]).float(), torch.tensor([b]).float())
    assert float(overlap) == pytest.approx(expected_iou)
    assert float(generalised) == pytest.approx(expected_giou)
    assert float(iou(torch.tensor([a]).float(), torch.tensor([b]).float())) == pytest.approx(expected_iou)


def _pairs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes and truths that miss, touch, hold and equal each other, some inside out."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(50, 4, generator=generator, dtype=torch.float64)
    boxes[:, 2:] = boxes[:, :2] + torch.rand(50, 2, generator=generator, dtype=torch.float64) - 0.2
    truths = torch.rand(9, 4, generator=generator, dtype=torch.float64)
    truths[:, 2:] += truths[:, :2]
    boxes[0], boxes[1], boxes[2, 0] = truths[0], 3.0, truths[2, 0]
    row, truth = torch.randint(0, 50, (400,), generator=generator), torch.randint(0, 9, (400,), generator=generator)
    row[:50], truth[:9] = torch.arange(50), torch.arange(9)
    return boxes, row, truths, truth


def test_paired_overlap_equals_its_parts_in_value_and_gradient() -> None:
    boxes, row, truths, truth = _pairs()
    boxes.requires_grad_()
    weight = torch.rand(400, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for ratio, generalised in (
        iou_and_giou(boxes[row], truths[truth]),
        paired_iou_and_giou(boxes, row, truths, truth),
    ):
        (grad,) = torch.autograd.grad((weight[:, 0] * ratio + weight[:, 1] * generalised).sum(), boxes)
        results.append((ratio, generalised, grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_highest_iou_is_the_highest_of_the_table() -> None:
    boxes, _, truths, _ = _pairs()
    torch.testing.assert_close(highest_iou(boxes, truths), iou(boxes[:, None], truths).amax(dim=1))

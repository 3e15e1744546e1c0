"""Box arithmetic: tables worked by hand, the empty case first."""

from __future__ import annotations

import pytest
import torch

from aweigh.train.boxes import iou, iou_and_giou, ltrb_to_xyxy, xyxy_to_ltrb


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

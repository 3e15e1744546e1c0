"""PAA: coding of boxes, stage 1, and the boundaries of Fig. 3."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aweigh.train.dense.points import Points, make_points
from aweigh.train.kernels.mixture import fit_mixtures
from aweigh.train.methods import Targets, make_method
from aweigh.train.methods.anchors import anchors_xyxy, best_iou, grown_iou
from aweigh.train.methods.base import ChosenOptions
from aweigh.train.methods.candidates import Pairs
from aweigh.train.methods.paa import PAA, PAAConfig


def test_zero_deltas_are_the_anchor_and_coding_is_inverse() -> None:
    method = PAA(1)
    xy, stride = torch.tensor([[4.0, 4.0]]), torch.tensor([8.0])
    assert method.boxes(torch.zeros(1, 4), xy, stride).tolist() == [[-27.5, -27.5, 35.5, 35.5]]
    boxes = torch.tensor([[3.0, 7.0, 90.0, 60.0]])
    torch.testing.assert_close(method.boxes(method.encode(boxes, xy, stride), xy, stride), boxes)


def test_large_deltas_are_clamped() -> None:
    boxes = PAA(1).boxes(torch.full((1, 4), 1e4), torch.zeros(1, 2), torch.tensor([8.0]))
    assert float(boxes[0, 2] - boxes[0, 0]) == pytest.approx(64 * 1000 / 16 - 1)
    assert math.isfinite(float(boxes.sum()))


def test_iou_counts_the_last_pixel() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0.0, 0, 9, 4]]).unbind()
    assert float(grown_iou(boxes[0], boxes[1])) == pytest.approx(0.5)


def test_a_truth_too_small_for_any_anchor_takes_the_tied_best() -> None:
    """IoU with every anchor that holds it is the same, far below 0.1: all of those are matched."""
    method = PAA(1)
    points = make_points([(16, 16)], [8], 0.5)
    pairs = method.match(points, Targets.join([torch.tensor([[60.0, 60.0, 66.0, 66.0]])], [torch.tensor([0])]))
    assert len(pairs) > 20
    centre = points.xy[pairs.point]
    assert ((centre - 31.5 <= 60).all(dim=1) & (centre + 31.5 >= 66).all(dim=1)).all()


def test_an_anchor_belongs_to_its_best_truth() -> None:
    method = PAA(1)
    points = make_points([(16, 16), (8, 8)], [8, 16], 0.5)
    boxes = torch.tensor([[10.0, 10.0, 80.0, 80.0], [30.0, 30.0, 110.0, 110.0]])
    pairs = method.match(points, Targets.join([boxes], [torch.tensor([0, 0])]))
    assert pairs.point.unique().numel() == len(pairs)
    assert set(pairs.truth.tolist()) == {0, 1}


@pytest.mark.parametrize(("boundary", "chosen"), [("b", 5), ("c", 2), ("d", 3)])
def test_boundaries(boundary: str, chosen: int) -> None:
    """Five good losses around 0.5, five bad ones around 5; a bad one near the good pulls the mixture's mode down."""
    method = PAA(1, PAAConfig(boundary=boundary))  # type: ignore[arg-type]
    losses = torch.tensor([[0.40, 0.46, 0.50, 0.56, 0.70, 4.6, 4.8, 5.0, 5.2, 5.4]])
    valid = torch.ones_like(losses, dtype=torch.bool)
    mixtures = fit_mixtures(losses, valid)
    assert mixtures.component[0].tolist() == [0] * 5 + [1] * 5
    good = method._good(mixtures, valid, losses)[0]
    assert good[: int(good.sum())].all(), "positives are the lowest losses"
    assert not good[5:].any()
    if boundary == "b":
        assert int(good.sum()) == chosen
    else:
        nearest = int((losses[0, :5] - mixtures.means[0, 0]).abs().argmin()) + 1
        assert int(good.sum()) == nearest


@pytest.mark.parametrize("seed", range(6))
def test_matching_equals_the_dense_table(seed: int) -> None:
    """Truths from far too small to far too large for the anchors, some outside the picture, two images."""
    generator = torch.Generator().manual_seed(seed)
    method = PAA(1)
    points = make_points([(12, 16), (6, 8), (3, 4), (2, 2)], [8, 16, 32, 64], 0.5)
    low = torch.rand(30, 2, generator=generator) * 120 - 10
    boxes = torch.cat((low, low + 2 + torch.rand(30, 2, generator=generator) ** 3 * 300), dim=1)
    targets = Targets.join([boxes[:18], boxes[18:]], [torch.zeros(18), torch.zeros(12)])
    found = {(int(i), int(p), int(t)) for i, p, t in zip(*_columns(method.match(points, targets)), strict=True)}
    anchors = anchors_xyxy(points, method.config.anchor_scale)
    overlap = grown_iou(anchors[:, None].unbind(-1), boxes.unbind(-1))  # [P, G]
    expected = set()
    for image, mine in ((0, range(18)), (1, range(18, 30))):
        table = overlap[:, list(mine)]
        best, which = table.max(dim=1)
        forced = (table == table.max(dim=0).values).any(dim=1)
        for p in torch.nonzero((best >= 0.1) | (forced & (best > 0)))[:, 0].tolist():
            expected.add((image, p, mine[int(which[p])]))
    assert found == expected


def _columns(pairs: Pairs) -> tuple[list[int], list[int], list[int]]:
    return pairs.image.tolist(), pairs.point.tolist(), pairs.truth.tolist()


STRIDES = (8, 16, 32, 64, 128)


def test_iou_with_the_best_anchor_is_that_of_the_boxes() -> None:
    """Against the table of all anchors: the box lies centred on the anchor of each level."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.rand(40, 2, generator=generator) * 200 + 4
    overlaps = []
    for stride in STRIDES:
        points = Points(torch.zeros(1, 2), torch.tensor([float(stride)]), ((1, 1),), (stride,), 0.0)
        anchor = anchors_xyxy(points, 3, 0.0)
        boxes = torch.cat((-sizes / 2, sizes / 2), dim=1)
        overlaps.append(grown_iou(anchor[0].unbind(-1), boxes.unbind(-1), 0.0))
    expected = torch.stack(overlaps).max(dim=0).values
    np.testing.assert_allclose(best_iou(sizes.numpy(), 3, STRIDES), expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("sides", "scale"),
    [
        ([24.0] * 10, 3),  # an anchor of 24 px is the box itself
        ([64.0, 128.0, 512.0], 8),  # as the authors' anchors
        ([24.0] * 2 + [48.0] * 30 + [150.0] * 3, 3),  # many cells, few platelets
        ([900.0], 7),  # 112 * 8 = 896
    ],
)
def test_the_scale_that_fits_the_boxes(sides: list[float], scale: int) -> None:
    sizes = np.array([[side, side] for side in sides])
    chosen = PAA.options_for(sizes, STRIDES, {})
    why = chosen.why
    assert chosen.options == {"anchor_scale": scale}
    assert why.startswith(f"anchor_scale {scale}: anchors of {8 * scale}, ")
    assert ("with the authors' 8" in why) == (scale != 8)
    # What a recipe states stays.
    assert PAA.options_for(sizes, STRIDES, {"anchor_scale": 5}) == ChosenOptions()


def test_the_authors_scale_stays_where_little_is_gained() -> None:
    sizes = np.array([[63.0, 63.0]] * 99 + [[16.0, 16.0]])
    # Anchors of 2 strides fit all as well, and one box of a hundred better: 0.009 of the mean.
    assert PAA.options_for(sizes, STRIDES, {}).options == {"anchor_scale": 8}
    assert PAA.options_for(np.zeros((0, 2)), STRIDES, {}) == ChosenOptions()


def test_boxes_that_no_anchor_covers() -> None:
    sizes = np.array([[24.0, 24.0], [33.0, 33.0], [64.0, 64.0], [12.0, 300.0]])
    assert make_method("paa", 1).unsuited(sizes, STRIDES).tolist() == [True, False, False, True]
    assert make_method("paa", 1, {"anchor_scale": 3}).unsuited(sizes, STRIDES).tolist() == [False, False, False, True]
    assert not make_method("dw", 1).unsuited(sizes, STRIDES).any()
    assert make_method("dw", 1).options_for(sizes, STRIDES, {}) == ChosenOptions()

"""Score voting and the conventions of post-processing, against loops in plain Python."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from aweigh.runtime.spec import PostSpec
from aweigh.train.dense.postprocess import Dense, PostProcess

VOTE = PostSpec("vote", "onnx", score_threshold=0.1, top_k_unit="image-pairs", max_det=6, pre_nms_top_k=200)


def crowd(seed: int) -> Dense:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(1, 60, 2, generator=generator) * 60 + 20
    size = torch.rand(1, 60, 2, generator=generator) * 10 + 20
    boxes = torch.cat((centre - size / 2, centre + size / 2), dim=2)
    scores = torch.rand(1, 60, 2, generator=generator)
    return Dense(boxes, scores, scores, [60], (100, 100))


def area_of_overlap(a: list[float], b: list[float], extra: float) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + extra
    height = min(a[3], b[3]) - max(a[1], b[1]) + extra
    return max(width, 0) * max(height, 0)


def plain_iou(a: list[float], b: list[float], extra: float) -> float:
    overlap = area_of_overlap(a, b, extra)
    areas = [(c[2] - c[0] + extra) * (c[3] - c[1] + extra) for c in (a, b)]
    return overlap / (sum(areas) - overlap)


@pytest.mark.parametrize("convention", ["continuous", "plus-one"])
@pytest.mark.parametrize("form", ["onnx", "matrix"])
def test_voting_equals_its_equations(form: str, convention: str) -> None:
    spec = replace(VOTE, nms_form=form, iou_convention=convention)  # type: ignore[arg-type]
    dense = crowd(0)
    extra = 1.0 if convention == "plus-one" else 0.0
    candidates = sorted(
        ((float(dense.scores[0, p, c]), dense.boxes_xyxy[0, p].tolist(), c) for p in range(60) for c in range(2)),
        key=lambda candidate: -candidate[0],
    )
    candidates = [candidate for candidate in candidates if candidate[0] > 0.1]
    kept: list[tuple[float, list[float], int]] = []
    for candidate in candidates:
        if all(k[2] != candidate[2] or plain_iou(k[1], candidate[1], extra) <= 0.6 for k in kept):
            kept.append(candidate)
    outputs = PostProcess(spec)(dense)
    assert int(outputs[0][0]) == 6
    for row, (score, box, label) in enumerate(kept[:6]):
        total, mean = 0.0, [0.0] * 4
        for other_score, other, other_label in candidates:
            overlap = plain_iou(box, other, extra)
            if other_label == label and overlap > 0.01:
                weight = other_score * math.exp(-((1 - overlap) ** 2) / 0.025)
                total += weight
                mean = [m + weight * o for m, o in zip(mean, other, strict=True)]
        assert outputs[1][0, row].tolist() == pytest.approx([m / total for m in mean], abs=1e-3)
        assert float(outputs[2][0, row]) == pytest.approx(score)
        assert int(outputs[3][0, row]) == label


@pytest.mark.parametrize("form", ["onnx", "matrix"])
def test_agnostic_nms_equals_the_loop(form: str) -> None:
    """Any better box suppresses, and only boxes of a class vote for its own."""
    dense = crowd(3)
    spec = replace(VOTE, kind="nms", nms_form=form, agnostic=True, max_det=40)  # type: ignore[arg-type]
    kept: list[tuple[float, list[float], int]] = []
    pairs = [(float(dense.scores[0, p, c]), dense.boxes_xyxy[0, p].tolist(), c) for p in range(60) for c in range(2)]
    for candidate in sorted(pairs, key=lambda pair: -pair[0]):
        if candidate[0] > 0.1 and all(plain_iou(k[1], candidate[1], 0.0) <= 0.6 for k in kept):
            kept.append(candidate)
    count, boxes, scores, labels = PostProcess(spec)(dense)[:4]
    assert int(count[0]) == len(kept) < 40
    assert scores[0, : len(kept)].tolist() == pytest.approx([k[0] for k in kept])
    assert labels[0, : len(kept)].tolist() == [k[2] for k in kept]
    assert boxes[0, : len(kept)].tolist() == [pytest.approx(k[1], abs=1e-3) for k in kept]
    assert int(PostProcess(replace(spec, agnostic=False))(dense)[0][0]) > len(kept)
    voted = PostProcess(replace(spec, kind="vote"))(dense)[1]
    own = PostProcess(replace(spec, kind="vote", agnostic=False))(dense)
    first = own[2][0].tolist().index(float(scores[0, 0]))
    assert torch.equal(voted[0, 0], own[1][0, first])


def test_voting_leaves_empty_rows_empty() -> None:
    dense = replace(crowd(1), scores=torch.zeros(1, 60, 2))
    count, boxes, scores, labels = PostProcess(VOTE)(dense)
    assert (int(count[0]), float(boxes.abs().sum()), float(scores.sum())) == (0, 0.0, 0.0)
    assert labels.tolist() == [[-1] * 6]


def test_threshold_can_look_at_the_class_alone() -> None:
    dense = crowd(2)
    probability = torch.full((1, 60, 2), 0.05)
    probability[0, 7, 1] = 0.5
    gated: Tensor = PostProcess(replace(VOTE, kind="nms", threshold_gates="class-probability"))(
        replace(dense, class_probability=probability)
    )[0]
    assert gated.tolist() == [1]


@pytest.mark.parametrize(("clip", "high"), [("size", 100.0), ("size-minus-one", 99.0), ("none", 150.0)])
def test_clipping(clip: str, high: float) -> None:
    boxes = torch.tensor([[[-10.0, 20.0, 150.0, 60.0]]])
    dense = Dense(boxes, torch.ones(1, 1, 1), torch.ones(1, 1, 1), [1], (100, 100))
    found = PostProcess(PostSpec("none", max_det=1, clip=clip, top_k_unit="image-pairs"))(dense)[1]  # type: ignore[arg-type]
    assert float(found[0, 0, 2]) == high

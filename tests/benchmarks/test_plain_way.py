"""The plain loops find what the product's own post-processing finds, in every convention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from aweigh.runtime.agreement.match import match_detections
from aweigh.runtime.spec import InputSpec, PostSpec
from aweigh.train.dense.postprocess import Dense, PostProcess
from support.plain_way import postprocess
from support.untrained import crowded_detector, thinned

BASE = PostSpec("nms", "onnx", score_threshold=0.3, pre_nms_top_k=40, max_det=15)


def crowd() -> Dense:
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(1, 90, 2, generator=generator) * 90
    size = torch.rand(1, 90, 2, generator=generator) * 10 + 20
    boxes = torch.cat((centre - size / 2, centre + size / 2), dim=2)
    scores, gate = torch.rand(2, 1, 90, 3, generator=generator)
    return Dense(boxes, scores, gate, [60, 30], (80, 100))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kind": "vote"},
        {"kind": "vote", "iou_convention": "plus-one", "clip": "size-minus-one"},
        {"kind": "none", "nms_form": None},
        {"top_k_unit": "image-pairs", "clip": "none"},
        {"threshold_gates": "class-probability"},
        {"score_threshold": 0.9999},
    ],
)
def test_same_as_in_the_graph(changes: dict[str, Any]) -> None:
    post, dense = replace(BASE, **changes), crowd()
    count, boxes, scores, labels = (value[0] for value in PostProcess(post)(dense))
    expected = tuple(value[: int(count)].numpy() for value in (boxes, scores, labels))
    found = tuple(value.numpy() for value in postprocess(dense, post))
    match = match_detections(expected, found, moved_px=1e-3)  # type: ignore[arg-type]
    assert (match.differing, match.compared) == (0, int(count))
    assert match.max_score_error < 1e-6
    assert len(found[1]) == int(count)
    assert (int(count) == 0) == (post.score_threshold > 0.99)


def test_a_network_is_thinned_to_so_many_candidates() -> None:
    network = {"width": 8, "light_stem": True, "channels": 8, "convs": 1}
    detector = crowded_detector("nano", "fcos", 20, InputSpec((96, 128)), network)
    image_u8 = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    found = thinned(detector, image_u8, 300)
    with torch.inference_mode():
        scores = detector.dense(torch.from_numpy(image_u8)[None]).scores
    assert found == int((scores > 0.05).sum())
    assert 200 < found < 400

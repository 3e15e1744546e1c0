"""The exported post-processing, in ONNX Runtime, gives the detections that the authors' code gave."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import PostSpec
from aweigh.train.conformance import o2f, paa
from aweigh.train.conformance.case import Case
from aweigh.train.dense.postprocess import MATRIX_CANDIDATES, Dense, PostProcess

GOLDEN = Path(os.environ.get("AWEIGH_TEST_DATA", "")) / "golden"
CASES = [
    *[("paa", name, form) for name in ("pub_infer", "pub_infer_small") for form in ("onnx", "matrix")],
    *[("o2f", name, None) for name in ("pub_infer", "pub_infer_prek")],
]
RUNNERS: dict[str, Any] = {"paa": paa.run, "o2f": o2f.run}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("AWEIGH_TEST_DATA" not in os.environ, reason="needs the authors' numbers: set AWEIGH_TEST_DATA"),
]


class Post(nn.Module):
    def __init__(self, spec: PostSpec, dense: Dense) -> None:
        super().__init__()
        self.post = PostProcess(spec)
        self.level_sizes, self.size_hw = dense.level_sizes, dense.size_hw

    def forward(self, boxes: Tensor, scores: Tensor, probability: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.post(Dense(boxes, scores, probability, self.level_sizes, self.size_hw))
        return outputs


@pytest.mark.parametrize(("method", "name", "form"), CASES)
def test_authors_detections(method: str, name: str, form: str | None, to_session: Callable[..., Any]) -> None:
    ran: list[PostSpec] = []

    def in_onnx(spec: PostSpec, dense: Dense) -> tuple[Tensor, ...]:
        spec = replace(spec, nms_form=form)  # type: ignore[arg-type]
        ran.append(spec)
        tensors = tuple(t.detach().contiguous() for t in (dense.boxes_xyxy, dense.scores, dense.class_probability))
        axes: dict[int, Any] = {0: torch.export.Dim.DYNAMIC}
        outputs = to_session(Post(spec, dense), tensors, (axes, axes, axes))(*tensors)
        if spec.nms_form == "matrix":
            assert outputs[-1].all()
        return tuple(torch.from_numpy(np.asarray(o)) for o in outputs)

    with np.load(GOLDEN / method / f"{name}.npz") as arrays:
        case = Case(dict(arrays), "float32")
    findings = RUNNERS[method](case, in_onnx)
    assert [spec.kind for spec in ran] == (["nms", "vote"] if method == "paa" else ["none"])
    compared = {finding.quantity: finding.status for finding in findings if finding.quantity.startswith("det_")}
    assert len(compared) >= 4
    assert set(compared.values()) == {"ok"}


def test_more_candidates_than_tensorrt_sorts() -> None:
    """The matrix form refuses them, the operator takes them."""
    spec = PostSpec("vote", "matrix", pre_nms_top_k=MATRIX_CANDIDATES, top_k_unit="level-pairs")
    scores = torch.rand(1, 5000, 1) * 0.9 + 0.1
    dense = Dense(torch.rand(1, 5000, 4), scores, scores, [4000, 1000], (64, 64))
    with pytest.raises(BadInput, match=r"on 4840 candidates per image: at most 3840; .* --top-k, or with --nms onnx"):
        PostProcess(spec)(dense)
    with pytest.raises(BadInput, match="on 3841 candidates"):
        PostProcess(replace(spec, pre_nms_top_k=MATRIX_CANDIDATES + 1, top_k_unit="image-pairs"))
    assert len(PostProcess(replace(spec, nms_form="onnx"))(dense)) == 4

"""What can be checked of the way through torch_tensorrt without it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from aweigh.export.engine.options import EngineOptions
from aweigh.export.jobs.options import ExportOptions
from aweigh.export.jobs.torch_trt import exported_program, match_names, run_torch_trt, torch_trt_spec
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.train.checkpoint import Checkpoint
from aweigh.train.models.deployable import Deployable

NAMES = ("num_dets", "boxes", "scores", "labels")


def test_outputs_are_paired_by_number() -> None:
    assert match_names(["images_1"], ["output10", "output9", "output0", "output2"], NAMES) == {
        "images": "images_1",
        "num_dets": "output0",
        "boxes": "output2",
        "scores": "output9",
        "labels": "output10",
    }
    with pytest.raises(CannotRun, match="expected one input and 4 outputs"):
        match_names(["x"], ["output0"], NAMES)
    with pytest.raises(CannotRun, match="expected one input"):
        match_names(["x", "y"], ["output0"] * 4, NAMES)


def test_nms_takes_the_matrix_form(checkpoint: Checkpoint) -> None:
    assert torch_trt_spec(checkpoint, ExportOptions()).post.nms_form == "matrix"
    assert torch_trt_spec(checkpoint, ExportOptions(post="raw")).post.nms_form is None


@pytest.mark.parametrize(
    ("export", "options", "words"),
    [
        ({"nms": "onnx"}, {}, "no converter"),
        ({"precision": "fp16"}, {}, "--precision fp16 with --format torch-trt"),
        ({}, {"opt_batches": (1, 8)}, "one profile per engine, 2 asked for"),
        ({}, {"timing_cache": Path("x")}, "keeps one of its own"),
        ({}, {"hardware_compatible": "same-capability"}, "ampere-plus only"),
    ],
)
def test_what_it_does_not_take(make_checkpoint: Any, export: Any, options: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        run_torch_trt(make_checkpoint("fcos"), None, ExportOptions(**export), EngineOptions(**options))


def test_the_program_has_operators_of_torch_alone(checkpoint: Checkpoint) -> None:
    spec = torch_trt_spec(checkpoint, ExportOptions())
    module = Deployable(checkpoint.detector(), spec.post, stop_early=False).eval()
    example = torch.randint(0, 256, (1, *spec.input.size_hw, 3), dtype=torch.uint8)
    with torch.no_grad():
        program = exported_program(module, example, {})
        got, expected = program.module()(example), module(example)
    assert not [node for node in program.graph.nodes if "aweigh" in str(node.target)]
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_without_torch_tensorrt(make_checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    with pytest.raises(CannotRun, match=r"\.\[torch-trt\]"):
        run_torch_trt(make_checkpoint("fcos"), None, ExportOptions(), EngineOptions())

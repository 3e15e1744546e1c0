"""Imported weights as exported files: the official code's outputs again, out of ONNX Runtime."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aweigh.export.graph.operators import check_operators
from aweigh.export.proof.sides import OnnxSide
from aweigh.export.to_onnx import export_onnx
from aweigh.train.models.deform import DeformConv2d
from aweigh.train.official.check import (
    TOLERANCE,
    TOLERANCE_PX,
    compare_detections,
    compare_stages,
    detections_of,
    read_stored,
    run_stages,
)
from aweigh.train.official.convert import import_released

ROOT = Path(os.environ.get("AWEIGH_TEST_DATA", "/nowhere")) / "checkpoints"
TINY = ("autoassign_cvpods", "autoassign_mmdet", "dw", "fcos_dcn_mmdet", "fcos_mmdet", "o2f", "paa_kkhoot", "paa_mmdet")
OUTPUTS = ("num_dets", "boxes", "scores", "labels")


@pytest.mark.skipif(not ROOT.is_dir(), reason="AWEIGH_TEST_DATA has no checkpoints/")
@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_the_exported_file_finds_what_the_official_code_finds(name: str, tmp_path: Path) -> None:
    checkpoint = import_released(ROOT / f"{name}.pth", gn_groups=8).checkpoint
    stored = read_stored(ROOT / f"{name}.io.npz")
    images_u8 = stored["image_rgb_u8"]
    batch, height, width = images_u8.shape[:3]
    as_stored = replace(checkpoint.spec.input, size_hw=(height, width), resize="letterbox", dynamic_size=False)
    spec = replace(checkpoint.spec, input=as_stored, batch=(batch, batch))
    export_onnx(checkpoint.detector(), spec, tmp_path / "best.onnx")
    with OnnxSide(tmp_path / "best.onnx", threads=1) as exported:
        outputs = exported.with_stages(images_u8)
        assert check_operators(exported.model).ready
    exact = run_stages(checkpoint.detector().double(), torch.from_numpy(images_u8))
    names = {"input": "x_norm", "boxes": "boxes_all_noclip", "scores": "scores_all"}
    seen = {
        names.get(key, key): torch.from_numpy(value)
        for key, value in ((k.removeprefix("stage_"), v) for k, v in outputs.items() if k.startswith("stage_"))
    }
    stages = compare_stages(stored, seen, exact.stages)
    assert [stage.stage for stage in stages if not stage.passed] == []
    assert len(stages) == 11
    found = detections_of(tuple(torch.from_numpy(outputs[key]) for key in OUTPUTS))
    check = compare_detections(stored, "det", found, found)
    assert (check.match.compared > 30, check.match.lost, check.match.new, check.match.relabelled) == (True, 0, 0, 0)
    # Another rounding, amplified by the deformable convolutions: see tests/train/official/test_check.py.
    amplified = 5 if name == "fcos_dcn_mmdet" else 1
    assert check.match.max_moved_px < amplified * TOLERANCE_PX
    assert check.match.max_score_error < amplified * TOLERANCE


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 2)])
def test_deformable_convolution_in_onnx_runtime(stride: int, groups: int, to_session) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    layer = DeformConv2d(4, 6, stride, groups).eval()
    with torch.no_grad():
        layer.conv_offset.weight.normal_(0, 0.4)
        layer.conv_offset.bias.normal_(0, 1.5)  # type: ignore[union-attr]
    free = {2: torch.export.Dim("height", min=4, max=64), 3: torch.export.Dim("width", min=4, max=64)}
    run = to_session(layer, (torch.randn(2, 4, 12, 10),), (free,))
    for size_hw in ((12, 10), (9, 17)):
        x = torch.randn(2, 4, *size_hw)
        with torch.no_grad():
            np.testing.assert_allclose(run(x)[0], layer(x).numpy(), rtol=1e-4, atol=1e-4)

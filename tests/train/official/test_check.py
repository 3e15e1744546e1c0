"""Imported checkpoints against the stored outputs of the official code."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.train.checkpoint import Checkpoint, load_checkpoint
from aweigh.train.official.check import TOLERANCE, TOLERANCE_PX, check_against
from aweigh.train.official.convert import import_released

ROOT = Path(os.environ.get("AWEIGH_TEST_DATA", "/nowhere")) / "checkpoints"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="AWEIGH_TEST_DATA has no checkpoints/")
TINY = ("autoassign_cvpods", "autoassign_mmdet", "dw", "fcos_dcn_mmdet", "fcos_mmdet", "o2f", "paa_kkhoot", "paa_mmdet")


@pytest.mark.parametrize("name", TINY)
def test_every_stage_and_detection_is_the_official_one(name: str) -> None:
    imported = import_released(ROOT / f"{name}.pth", gn_groups=8)
    check = check_against(imported.checkpoint, ROOT / f"{name}.io.npz")
    assert check.passed, check.to_dict()
    stages = {stage.stage: stage for stage in check.stages}
    assert {"x_norm", "c3", "c5", "p3", "p7", "cls_p3", "reg_p7", "ctr_p5", "priors", "scores_all"} <= set(stages)
    assert stages["priors"].max_abs == 0
    assert [found.case for found in check.detections][:2] == ["det", "det64"]
    assert len(check.detections) == (3 if name.startswith("paa") else 2)
    if name == "fcos_dcn_mmdet":
        # Its float32 outputs depend on their own rounding, so on the CPU: 5e-4 of a stage with AVX2, 0.08 px between
        # float64 and the stored values.
        assert max(stage.error for stage in check.stages) < 1e-3
        assert max(found.match.max_moved_px for found in check.detections) < 0.1
    else:
        assert max(stage.error for stage in check.stages) < TOLERANCE
        assert max(found.match.max_moved_px for found in check.detections) < TOLERANCE_PX
    assert max(found.match.max_score_error for found in check.detections) < TOLERANCE


def checkpoint(name: str) -> Checkpoint:
    return import_released(ROOT / f"{name}.pth", gn_groups=8).checkpoint


@pytest.mark.parametrize(
    ("name", "network", "stage"),
    [
        ("paa_mmdet", {"p7_relu": True}, "p7"),
        ("fcos_mmdet", {"stride_in_1x1": False}, "c3"),
        ("dw", {"gn_groups": 16}, "cls_p3"),
    ],
)
def test_a_wrong_network_is_told(name: str, network: dict[str, Any], stage: str) -> None:
    right = checkpoint(name)
    wrong = replace(right, network={**right.network, **network})
    check = check_against(wrong, ROOT / f"{name}.io.npz")
    assert stage == next(found.stage for found in check.stages if not found.passed)


@pytest.mark.parametrize(
    ("name", "post"),
    [
        ("fcos_dcn_mmdet", {"drop_empty": False}),
        ("autoassign_mmdet", {"threshold_gates": "score"}),
        ("autoassign_cvpods", {"threshold_gates": "class-probability"}),
        ("autoassign_cvpods", {"clip_when": "before-nms"}),
        ("fcos_mmdet", {"iou_threshold": 0.6}),
        ("paa_mmdet", {"kind": "nms"}),
        ("paa_mmdet", {"top_k_unit": "level-pairs"}),
        ("paa_kkhoot", {"iou_convention": "continuous"}),
        ("o2f", {"kind": "nms", "nms_form": "onnx"}),
    ],
)
def test_another_rule_of_post_processing_is_told(name: str, post: dict[str, Any]) -> None:
    right = checkpoint(name)
    wrong = replace(right, spec=replace(right.spec, post=replace(right.spec.post, **post)))
    assert not check_against(wrong, ROOT / f"{name}.io.npz").passed


def test_the_verb_writes_a_checkpoint_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "best.pt"
    given = ["import", "--checkpoint", str(ROOT / "dw.pth"), "--out", str(out), "--gn-groups", "8"]
    assert main([*given, "--check", str(ROOT / "dw.io.npz"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["family"], report["method"], report["classes"]) == ("dw", "dw", 5)
    assert {"file": "bbox_head.reg_offset.bias", "name": "head.outputs.offset.bias", "shape": [8]} in report["matched"]
    assert set(report["ignored"]) == {"bbox_head.center_prior.mean", "bbox_head.center_prior.sigma"}
    assert report["check"]["passed"]
    with torch.inference_mode():
        load_checkpoint(out).detector()(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))

    stored = dict(np.load(ROOT / "dw.io.npz"))
    stored["cls_p4"] = stored["cls_p4"] + 0.01
    np.savez(tmp_path / "other.npz", **stored)
    assert main([*given, "--check", str(tmp_path / "other.npz")]) == 1
    assert "FAILED" in capsys.readouterr().out
    assert main([*given[:3], "--out", str(tmp_path / "best.pth")]) == 2


def test_files_that_hold_no_outputs(tmp_path: Path) -> None:
    found = checkpoint("o2f")
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "none.npz", x=np.zeros(3))
    np.savez(tmp_path / "picture.npz", image_rgb_u8=np.zeros((1, 64, 64, 3), np.uint8))
    for name, words in (
        ("missing.npz", "no such file"),
        ("text.npz", "not a file of arrays"),
        ("none.npz", "expected image_rgb_u8"),
        ("picture.npz", "no detections in it"),
    ):
        with pytest.raises(BadInput, match=words):
            check_against(found, tmp_path / name)

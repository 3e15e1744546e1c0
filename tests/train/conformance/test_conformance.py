"""The methods against their authors' numbers, and the comparison against itself."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime.cli.main import main
from aweigh.train.conformance import run_conformance
from aweigh.train.conformance.checks import relative_error


@pytest.fixture(scope="module")
def golden() -> Path:
    root = os.environ.get("AWEIGH_TEST_DATA")
    if not root:
        pytest.skip("AWEIGH_TEST_DATA is not set: no reference numbers")
    return Path(root) / "golden"


def test_every_method_agrees_with_its_authors(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--golden", str(golden), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert len(report["cases"]) > 900
    unmeasured = [case["method"] for case in report["cases"] if case["status"] == "not_built"]
    assert unmeasured == ["fcos", "ala"]  # no numbers of their authors' code
    report["cases"] = [case for case in report["cases"] if case["method"] not in unmeasured]
    assert {case["status"] for case in report["cases"]} == {"ok", "deviates"}
    deviating = {(c["method"], c["case"], c["quantity"]) for c in report["cases"] if c["status"] == "deviates"}
    losses = {f"loss_norm__{prior}_{precision}" for prior in ("init", "learned") for precision in ("f32", "f64")}
    assert deviating == {
        *(("o2f", "pub_h_nopos", quantity) for quantity in ("loss_bbox__e0", "greg__e0")),
        *(("autoassign", "pub_h_nopoint", quantity) for quantity in losses),
    }
    compared = {(case["method"], case["case"]) for case in report["cases"]}
    assert {(file.parent.name, file.stem) for file in golden.glob("*/*.npz")} == compared


def test_every_array_with_a_result_is_compared(golden: Path) -> None:
    """Inputs, settings and derived weights apart, no array may be passed over."""
    inputs = ("strides", "image_hw", "num_classes", "seed", "dtype_compute", "level_of_point", "score_thr", "nms_pre")
    prefixes = ("gt_", "cls_l", "regraw_l", "reg_l", "obj_l", "offset_l", "gout_l", "max_per_img", "mu__", "sigma__")
    prefixes = (*prefixes, "pre_nms_", "nms_thresh", "max_dets", "sklearn", "gmm_gt", "gmm_same", "reg_loss_weighted")
    compared: dict[tuple[str, str], set[str]] = {}
    for case in run_conformance(golden).cases:
        compared.setdefault((case.method, case.case), set()).add(case.check.quantity)
    for method in ("autoassign", "dw", "o2f", "paa"):
        for file in (golden / method).glob("*.npz"):
            with np.load(file) as arrays:
                for name in arrays.files:
                    if name in inputs or name.startswith(prefixes):
                        continue
                    level_free = name.replace("_l0", "").replace("_l1", "").replace("_l2", "")
                    level_free = level_free.replace("_l3", "").replace("_l4", "")
                    done = compared[method, file.stem]
                    assert name in done or level_free in done, f"{file.name}: {name} is not compared"


def test_a_wrong_number_is_found(golden: Path, tmp_path: Path) -> None:
    (tmp_path / "dw").mkdir()
    with np.load(golden / "dw" / "pub_a_basic.npz") as arrays:
        changed = dict(arrays)
    changed["loss_loc"] = changed["loss_loc"] * (1 + 1e-5)
    np.savez(tmp_path / "dw" / "changed.npz", **changed)
    report = run_conformance(tmp_path)
    assert not report.passed
    assert [case.check.quantity for case in report.cases if case.check.status == "fail"] == ["loss_loc"]
    assert main(["conformance", "--golden", str(tmp_path)]) == 1


def test_unknown_method_is_not_built_and_does_not_fail(golden: Path, tmp_path: Path) -> None:
    (tmp_path / "novel").mkdir()
    shutil.copy(golden / "dw" / "pub_a_basic.npz", tmp_path / "novel" / "a.npz")
    report = run_conformance(tmp_path)
    assert report.passed
    assert report.cases[0].check.status == "not_built"


@pytest.mark.parametrize("content", [None, b"", b"no npz at all"])
def test_bad_folders_and_files(content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (tmp_path / "dw").mkdir()
        (tmp_path / "dw" / "x.npz").write_bytes(content)
    assert main(["conformance", "--golden", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_relative_error_follows_its_definition() -> None:
    reference = np.array([100.0, 0.0])
    assert relative_error(np.array([101.0, 0.0]), reference) == pytest.approx(1 / 101)
    assert relative_error(np.array([100.0, 0.5]), reference) == pytest.approx(0.5)
    assert relative_error(np.array([1, 2]), np.array([1, 3])) == 1.0
    assert relative_error(np.zeros(3), np.zeros(3)) == 0.0
    assert relative_error(np.full(3, 1e-9), np.zeros(3)) > 1
    assert relative_error(np.array([np.nan]), np.array([1.0])) > 1
    assert relative_error(np.zeros(2), np.zeros(3)) > 1

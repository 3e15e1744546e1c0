"""Export as a function: what is left where it fails, and the names that a user imports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest

import aweigh.export
from aweigh.export import ExportOptions, export, to_onnx
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput, CheckFailed
from aweigh.train.data.shapes import generate_shapes


def test_a_failing_export_leaves_the_old_file_and_its_receipt(
    make_checkpoint: Callable[[str], Path],
    make_export: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("model.onnx", "model.receipt.json", "model.receipt.html")
    for name in names:
        (tmp_path / name).write_text(f"the old {name}")
    plain = make_export("fcos", post="auto")
    monkeypatch.setattr(
        to_onnx, "trace", lambda detector, spec, stop_early: ir.load(plain)
    )  # a graph without half precision
    with pytest.raises(CheckFailed, match="--precision fp16: none of"):
        export(make_checkpoint("fcos"), tmp_path / "model.onnx", ExportOptions(precision="fp16", golden=0))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: f"the old {name}" for name in names}


def test_public_names_are_loaded_on_first_use() -> None:
    """An engine is built from an ONNX file where torch is not installed."""
    code = (
        "import sys, aweigh.export; assert not {'onnx', 'tensorrt'} & set(sys.modules); "
        "from aweigh.export import EngineOptions, build_engine; assert not {'torch', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert dir(aweigh.export) == sorted(aweigh.export.__all__)
    assert all(getattr(aweigh.export, name).__doc__ for name in aweigh.export.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'run_export'"):
        _ = aweigh.export.run_export  # type: ignore[attr-defined]


def test_data_without_val_will_do_where_nothing_is_compared(
    make_checkpoint: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what INT8 is calibrated on is needed then."""
    data = generate_shapes(tmp_path / "data", train=4, val=1, size_hw=(64, 64))
    (data / "annotations" / "instances_val.json").unlink()
    options = ExportOptions(data=str(data), precision="int8", calib=2, golden=1, verify=False)
    with pytest.raises(BadInput, match="no split 'val'; there is train"):
        export(make_checkpoint("fcos"), tmp_path / "model.onnx", replace(options, verify=True))
    with pytest.raises(BadInput, match="no split 'test'"):
        export(make_checkpoint("fcos"), tmp_path / "model.onnx", replace(options, split="test"))
    result = export(make_checkpoint("fcos"), tmp_path / "model.onnx", options)
    assert "has no split 'val': the images for the self-test are generated" in capsys.readouterr().err
    assert result.receipt is None
    Detector(result.artifact, threads=1).close()  # passes its self-test

"""A call that one of TensorRT's two APIs lacks is found by the type checker, as `make types` runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rtx_stubs import make_stubs

PROGRAM = """
import tensorrt as trt

def both(config: trt.IBuilderConfig) -> None:
    config.clear_flag(trt.BuilderFlag.TF32)

def only_10(config: trt.IBuilderConfig) -> None:
    config.set_flag(trt.BuilderFlag.FP16)

def only_11() -> trt.CausalMaskKind:
    return trt.CausalMaskKind.NONE
"""


def signatures(version: str, folder: Path) -> Path:
    """Type stubs: of the test data, or made from the bindings of TensorRT for RTX."""
    if version == "rtx":
        pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX: pip install '.[rtx]'")
        make_stubs(folder / "api")
        return folder / "api"
    data = os.environ.get("AWEIGH_TEST_DATA")
    api = Path(data or "") / "tensorrt" / "api" / version
    if not data or not api.is_dir():
        pytest.skip("AWEIGH_TEST_DATA has no tensorrt/api, the signatures of TensorRT's Python API")
    return api


@pytest.mark.slow
@pytest.mark.parametrize(("version", "lacks"), [("10", "CausalMaskKind"), ("11", "FP16"), ("rtx", "FP16")])
def test_a_call_of_one_version_only_is_found(version: str, lacks: str, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    api = signatures(version, tmp_path)
    (tmp_path / "planted.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "cache", "planted.py"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": str(api)},
        cwd=tmp_path,
    )
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert errors, done.stdout + done.stderr
    assert all(lacks in line for line in errors), errors

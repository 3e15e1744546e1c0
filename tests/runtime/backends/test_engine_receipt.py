"""``aweigh verify`` of an engine, on stand-ins for TensorRT and CUDA."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aweigh.export import VerifyOptions, verify
from aweigh.export.proof.prove import Scope
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256
from aweigh.runtime.files.engine import PrecisionShare

MakeEngine = Callable[..., Path]


def test_against_the_file_it_was_built_from(
    tensorrt: Any, make_engine: MakeEngine, make_model: Callable[..., Path]
) -> None:
    path = make_engine()
    with pytest.raises(BadInput, match=r"other.onnx .*red.engine does not come from it"):
        verify(path, make_model("other.onnx", architecture="another"))
    path = make_engine(sidecar={"parents": {"onnx_sha256": file_sha256(path.with_suffix(".onnx"))}})
    result = verify(path, path.with_suffix(".onnx"), VerifyOptions(scope=Scope(3, (2,))))
    assert result.verdict == "passed"
    assert any("fuses its layers" in line for line in result.warnings)
    receipt = json.loads((path.parent / "red-against-red.onnx.receipt.json").read_text())
    assert (receipt["runs_in"], receipt["operators"]) == ("TensorRT", None)
    assert [run["stages"] for run in receipt["runs"]] == [[]]
    assert "TensorRT 1" not in (path.parent / "red-against-red.onnx.receipt.html").read_text()


@pytest.mark.parametrize(("layers", "verdict"), [(2, "passed"), (0, "failed")])
def test_precision_that_the_build_found(
    layers: int, verdict: str, tensorrt: Any, make_engine: MakeEngine, make_model: Callable[..., Path]
) -> None:
    shares = (PrecisionShare("FP16", layers, layers / 2, 8 * layers, layers / 2, 8 * layers, layers / 2),)
    parents = {"onnx_sha256": file_sha256(make_model("red.onnx", precision="fp16"))}
    path = make_engine(precision="fp16", sidecar={"parents": parents, "precision": shares})
    result = verify(path, path.with_suffix(".onnx"))
    assert result.verdict == verdict
    assert result.receipt is not None
    assert result.receipt.failed_at == (None if layers else "precision")

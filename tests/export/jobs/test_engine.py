"""From a checkpoint to an engine: the ONNX file and its receipt come first; the build itself is left out here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from aweigh.export import to_onnx
from aweigh.export.engine import build as builder
from aweigh.export.jobs import engine as engine_job
from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import CannotRun
from aweigh.runtime.files.onnx import read_onnx
from aweigh.train import checkpoint


@pytest.fixture
def model(make_checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copy(make_checkpoint("fcos"), tmp_path / "fcos.pt"))


class _EnoughError(BaseException):
    """Stands for the build; no exception that the command line turns into a line."""


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[str]:
    """Grows by one entry with each call of a function, which does what it did."""
    calls: list[str] = []
    original = getattr(owner, name)

    def call(*arguments: Any) -> Any:
        calls.append(name)
        return original(*arguments)

    monkeypatch.setattr(owner, name, call)
    return calls


@pytest.mark.slow
def test_the_onnx_file_is_exported_for_an_engine(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is read once, and its network built once: for the graph, the golden images and the receipt."""
    seen: list[Any] = []
    reads = counted(monkeypatch, checkpoint, "read_tensors")
    networks = counted(monkeypatch, checkpoint, "build_detector")

    def build(*arguments: Any) -> Any:
        seen.extend(arguments)
        raise _EnoughError

    monkeypatch.setattr(engine_job, "require_builder", lambda options: None)
    monkeypatch.setattr(builder, "build_engine", build)
    command = ["export", "--model", str(model), "--format", "engine", "--batch", "2", "--threads", "1", "--golden", "1"]
    with pytest.raises(_EnoughError):
        main(command)
    assert (len(reads), len(networks)) == (1, 1)
    onnx, out, options = seen
    assert (onnx, out) == (model.with_suffix(".onnx"), model.with_suffix(".engine"))
    spec = read_onnx(onnx).spec(onnx)
    assert (spec.post.nms_form, spec.batch) == ("matrix", (2, 2))
    assert (options.device, options.flavour) == (None, "tensorrt")
    assert json.loads(model.with_suffix(".receipt.json").read_text())["verdict"] == "passed"


def test_no_engine_is_built_where_the_receipt_failed(
    model: Path, make_export: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = make_export("fcos", post="nms", nms="matrix")
    monkeypatch.setattr(
        to_onnx, "trace", lambda detector, spec, stop_early: ir.load(graph)
    )  # which this test is not about
    monkeypatch.setattr(engine_job, "require_builder", lambda options: None)
    monkeypatch.delattr(builder, "build_engine")
    command = [
        "export",
        "--model",
        str(model),
        "--format",
        "engine",
        "--batch",
        "1-4",
        "--threads",
        "1",
        "--golden",
        "0",
    ]
    assert main([*command, "--tol-stage", "0", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert [line.split(":")[0] for line in result["failed"]] == ["stages"]
    assert not model.with_suffix(".engine").exists()


def test_nothing_is_exported_where_no_engine_can_be_built(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(options: Any) -> None:
        raise CannotRun("no TensorRT")

    monkeypatch.setattr(engine_job, "require_builder", absent)
    assert main(["export", "--model", str(model), "--format", "engine"]) == 3
    assert [path.name for path in model.parent.iterdir()] == ["fcos.pt"]

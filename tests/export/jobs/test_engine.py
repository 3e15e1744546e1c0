"""From a checkpoint to an engine: the ONNX file and its receipt come first; the build itself is left out here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aweigh.export.engine import build as builder
from aweigh.export.jobs import engine as engine_job
from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import CannotRun
from aweigh.runtime.files.onnx import read_onnx


@pytest.fixture
def model(make_checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copy(make_checkpoint("fcos"), tmp_path / "fcos.pt"))


class _EnoughError(Exception):
    """Stands for the build."""


@pytest.mark.slow
def test_the_onnx_file_is_exported_for_an_engine(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def build(*arguments: Any) -> Any:
        seen.extend(arguments)
        raise _EnoughError

    monkeypatch.setattr(engine_job, "require_builder", lambda options: None)
    monkeypatch.setattr(builder, "build_engine", build)
    command = ["export", "--model", str(model), "--format", "engine", "--batch", "2", "--threads", "1", "--golden", "0"]
    with pytest.raises(_EnoughError):
        main(command)
    onnx, out, options = seen
    assert (onnx, out) == (model.with_suffix(".onnx"), model.with_suffix(".engine"))
    spec = read_onnx(onnx).spec(onnx)
    assert (spec.post.nms_form, spec.batch) == ("matrix", (2, 2))
    assert (options.device, options.flavour) == (None, "tensorrt")
    assert json.loads(model.with_suffix(".receipt.json").read_text())["verdict"] == "passed"


def test_no_engine_is_built_where_the_receipt_failed(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine_job, "require_builder", lambda options: None)
    monkeypatch.delattr(builder, "build_engine")
    command = ["export", "--model", str(model), "--format", "engine", "--batch", "1", "--threads", "1", "--golden", "0"]
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

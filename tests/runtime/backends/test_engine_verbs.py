"""Verbs on an engine, on stand-ins for TensorRT and CUDA."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime.cli.main import main

MakeEngine = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("only_runtime_verbs")


def test_predict(tensorrt: Any, make_engine: MakeEngine, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_engine()
    results = []
    for arguments in (["--model", str(path), "--device", "cuda"], ["--model", str(path.with_suffix(".onnx"))]):
        assert main(["predict", "--source", str(folder), "--json", *arguments]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert len(results[0]) == 3
    assert results[0] == results[1]

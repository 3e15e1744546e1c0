"""Verbs on an engine, on stand-ins for TensorRT and CUDA."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime.bench import BenchPlan, check
from aweigh.runtime.bench_worker import measure
from aweigh.runtime.cli import main

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


def test_bench(tensorrt: Any, make_engine: MakeEngine) -> None:
    plan = BenchPlan(str(make_engine()), 2, "cuda", iterations=3)
    check(plan)
    result = measure(plan)
    assert result["device_memory"]["lanes"] == 1
    assert result["post_share"] is None
    assert (result["threads"], result["iterations"]) == (4, 3)
    assert result["providers"][0] == "TensorRT 11.4.0.106"

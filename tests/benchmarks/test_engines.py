"""The command that builds the table of engines, on one small network with the real library."""

from __future__ import annotations

from pathlib import Path

import engines
import pytest

from support.reports.report import read

pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX: pip install '.[rtx]'")


@pytest.mark.slow
def test_a_row_says_what_the_engine_computes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = engines.Case("nano", "fcos", "fp16", (64, 96), batch="1")
    monkeypatch.setattr(engines, "cases", lambda: iter([case]))
    out = tmp_path / "engines.json"
    assert engines.main(["--out", str(out)]) == 0
    [row] = read(out, "engines").rows
    assert {count["precision"]: count["convolutions"] for count in row["layers"]}["fp16"] == 56
    assert row["cpu_seconds"] > 0
    assert row["plan_mb"] > row["onnx_mb"] > 1
    assert "56 fp16" in capsys.readouterr().out

    monkeypatch.setattr(engines, "measure", None)  # the row is there already
    assert engines.main(["--out", str(out), "--resume", str(out), "--only", "nano"]) == 0
    assert read(out, "engines").rows == [row]


def test_the_table_has_every_method_and_precision() -> None:
    known = [(case.method, case.precision) for case in engines.cases() if case.architecture == "nano"]
    assert len(set(known)) == len(engines.METHODS) * 4
    assert sum(case.dynamic_size for case in engines.cases()) == 1

"""What the doctor says of an installation; the real one here, and ones with gaps."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping

import onnxruntime
import pytest

from aweigh.runtime.cli.main import main
from aweigh.runtime.machine import doctor
from aweigh.runtime.machine.conditions import GpuState
from aweigh.runtime.machine.doctor import MachineFinding, TorchFacts, examine_machine


def test_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == (0 if report["passed"] else 1)
    assert report["backends"]["onnxruntime"]["version"] == onnxruntime.__version__
    assert "cpu" in report["backends"]["onnxruntime"]["devices"]
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["memory_gb"] > 0.1
    assert report["extras"]["cpu"] == {"missing": [], "install": "pip install '.[cpu]' in a clone of aweigh"}
    assert "ray" in report["extras"]


def test_tables_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    out = capsys.readouterr().out
    assert "aweigh[train]" in out
    assert onnxruntime.__version__ in out


def findings_with(
    monkeypatch: pytest.MonkeyPatch, installed: Mapping[str, str], torch: TorchFacts | None = None
) -> tuple[MachineFinding, ...]:
    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(doctor, "version", version)
    return examine_machine(None if torch is None else lambda: torch).findings


def test_two_distributions_of_one_module(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = (
        f
        for f in findings_with(monkeypatch, {"onnxruntime": "1", "onnxruntime-gpu": "1"})
        if "own the same module" in f.meaning
    )
    assert finding.grade == "error"
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in finding.advice


def test_nothing_to_run_models_with(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings_with(monkeypatch, {"numpy": "2"})
    assert any(f.grade == "error" and ".[cpu]" in f.advice for f in found)


def test_torch_that_does_not_see_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    now = doctor.snapshot()
    monkeypatch.setattr(doctor, "snapshot", lambda device: dataclasses.replace(now, gpu=GpuState("T4", "1")))
    found = findings_with(monkeypatch, {"onnxruntime": "1"}, TorchFacts("2.13.0+cpu", None, ()))
    told = [f.meaning for f in found]
    assert any("torch 2.13.0+cpu does not see the T4" in meaning for meaning in told)
    assert any("ONNX Runtime does not use the T4" in meaning for meaning in told)

"""The serving benchmark's parts, at tiny lengths: what is counted, never how fast."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import replicas
import serving
from server_process import write_model

from aweigh.runtime.detector import Detector
from support.reports import script
from support.reports.report import read
from support.serving import stand_in


def test_a_short_run(tmp_path: Path) -> None:
    model, source, out = tmp_path / "red.onnx", tmp_path / "x.jpg", tmp_path / "report.json"
    write_model(model)
    cv2.imwrite(str(source), np.full((64, 96, 3), 60, np.uint8))
    flags = ["--model", model, "--source", source, "--out", out, "--threads", "1", "--rounds", "2", "--seconds", "0.2"]
    flags += ["--clients", "1,2", "--overload", "4", "--overload-rounds", "1"]
    assert script.run("serving.py", serving.main, [*map(str, flags)]) == 0
    report = read(out, "serving")
    assert serving.LAYOUT.grids(report)
    assert [(row["load"], row.get("clients")) for row in report.rows] == [
        ("direct: one picture", None), ("direct: decoding and network", None), ("direct: network", None),
        ("jpeg", 1), ("jpeg", 2), ("tensor", 1), ("tensor", 2), ("jpeg, overload", 4),
    ]  # fmt: skip
    for row in report.rows:
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["per_s"] > 0
    for row in report.rows[3:7]:
        assert set(row["statuses"]) == {"200"}
        assert row["statuses"]["200"] > 0
        assert row["share"]["pairs"] == 2
    assert report.rows[3]["added_p50_ms"]["pairs"] == 2
    assert set(report.rows[-1]["statuses"]) <= {"200", "503"}
    assert len(report.rows[-1]["resident_mb"]) == 2
    limits = ["--at-least", "1=99", "--limit-added-ms", "-1", "--overload", "0", "--clients", "1", "--rounds", "1"]
    assert script.run("serving.py", serving.main, [*map(str, flags), *limits]) == 1


def test_replicas_stand_in_for_the_network(tmp_path: Path) -> None:
    model = tmp_path / "red.onnx"
    write_model(model)
    with Detector(model) as detector, stand_in.StandIn(str(model), network_ms=1.0) as waiting:
        grey = np.full((1, *detector.spec.input.size_hw, 3), detector.spec.input.pad_value, np.uint8)
        once, thrice = detector.raw(grey), waiting.raw(np.zeros((3, *grey.shape[1:]), np.uint8))
        for name, value in once.items():
            np.testing.assert_array_equal(thrice[name], np.repeat(value, 3, axis=0))


def test_replicas_need_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    flags = ["--model", str(tmp_path / "x.onnx"), "--source", str(tmp_path / "x.jpg")]
    assert script.run("replicas.py", replicas.main, flags) == 3
    assert ".[ray]" in capsys.readouterr().err

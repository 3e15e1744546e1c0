"""The serving benchmark's parts, at tiny lengths: what is counted, never how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import serving

MODEL = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from conftest import write_model
write_model(Path({path!r}))
"""


def test_a_short_run(tmp_path: Path) -> None:
    model, source, out = tmp_path / "red.onnx", tmp_path / "x.jpg", tmp_path / "report.json"
    tests = str(Path(__file__).parents[1] / "serve")
    subprocess.run([sys.executable, "-c", MODEL.format(tests=tests, path=str(model))], check=True)
    cv2.imwrite(str(source), np.full((64, 96, 3), 60, np.uint8))
    flags = ["--clients", "1,2", "--overload", "4", "--overload-rounds", "1", "--seconds", "0.2", "--threads", "1"]
    command = [sys.executable, serving.__file__, "--model", str(model), "--source", str(source), "--out", str(out)]
    subprocess.run([*command, *flags], check=True, capture_output=True)
    report = json.loads(out.read_text())
    assert [(row["form"], row["clients"]) for row in report["rows"]] == [
        ("jpeg", 1), ("jpeg", 2), ("tensor", 1), ("tensor", 2),
    ]  # fmt: skip
    for row in report["rows"]:
        assert set(row["statuses"]) == {"200"}
        assert row["statuses"]["200"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert set(report["overload"]["rounds"][0]["statuses"]) <= {"200", "503"}
    assert report["direct"]["network_batch"]["per_s"] > 0

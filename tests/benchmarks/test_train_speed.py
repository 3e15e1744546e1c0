"""train_speed.py from its command line to its report; no test asserts a time."""

from __future__ import annotations

from pathlib import Path

import train_speed

from aweigh.train.data.shapes import generate_shapes
from support.reports.report import read
from support.reports.script import run


def test_train_speed(tmp_path: Path) -> None:
    """Two steps of each way on tiny pictures; a speed that nothing reaches is exit code 1."""
    data = generate_shapes(tmp_path / "shapes", train=4, val=2, test=2, size_hw=(64, 64))
    arguments = ["--data", str(data), "--methods", "fcos", "--imgsz", "64", "--batch", "2", "--threads", "1"]
    report = tmp_path / "speed.json"
    command = [*arguments, "--rounds", "2", "--out", str(report), "--at-least", "1000"]
    assert run("train_speed.py", train_speed.main, command) == 1
    (row,) = read(report, "train_speed").rows
    assert row["speedup"]["pairs"] == 2
    assert min(row["shipped_ms"], row["plain_ms"], row["loss_share"]["median"], row["loader_ms"]) > 0
    assert 0 <= row["waiting_share"] < 1

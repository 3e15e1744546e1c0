"""A folder as it was cloned, to a drawn prediction: one command to train, one to predict, nothing copied or edited."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aweigh.runtime.cli.main import main
from tests.support.layouts import LAYOUTS, make_items


@pytest.mark.slow
def test_two_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    data = LAYOUTS["voc-labelimg-folders"].write(tmp_path / "data", make_items(tmp_path))
    (data / "val").rename(data / "test")
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    monkeypatch.chdir(tmp_path)
    small = [
        "--model",
        "nano",
        "--imgsz",
        "64",
        "--iterations",
        "2",
        "--batch",
        "4",
        "--workers",
        "0",
        "--threads",
        "1",
    ]
    assert main(["train", "--data", "data", "--val-share", "0.25", *small, "--threads", "1"]) == 0
    assert "test split  not used" in capsys.readouterr().out
    arguments = ["--model", "runs/train/train/weights/best.pt", "--source", "data/test/val_0.jpg", "--threads", "1"]
    assert main(["predict", *arguments, "--out", "found"]) == 0
    assert "exported for this run" in " ".join(capsys.readouterr().err.split())
    assert {path.name for path in Path("found").iterdir()} == {"detections.json", "failures.json", "val_0.jpg"}
    assert isinstance(json.loads(Path("found/detections.json").read_text()), (list, dict))
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before

"""--slice and --tta of predict and val."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime.cli.main import main
from aweigh.runtime.cli.views import parse_tta
from aweigh.runtime.errors import BadInput

PARENTS = {"checkpoint_sha256": "f" * 64}


def predicted(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[tuple[str, list[float]]]:
    assert main(["predict", *map(str, arguments), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    return sorted((d["label"], d["box"]) for d in entry["detections"])


def test_predict_in_tiles(
    model: Path,
    tmp_path: Path,
    make_picture: Callable[..., Any],
    write_picture: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = make_picture((64, 300), (10, 10, 40, 50))
    picture[10:50, 250:280] = (255, 0, 0)
    path = write_picture(tmp_path / "wide.png", picture)
    wholes = [
        [box for label, box in predicted(capsys, "--model", model, "--source", path, *flags) if label == "whole"]
        for flags in ((), ("--slice", "64x96", "--no-slice-full", "--slice-overlap", 0.1), ("--slice=64x96",))
    ]
    assert len(wholes[0]) == 1  # of the picture as it is this model sees the box around all that is red
    assert wholes[1] == [[10, 10, 40, 50], [250, 10, 280, 50]]
    assert len(wholes[2]) == 3


def test_predict_augmented(
    make_model: Callable[..., Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dynamic = make_model("dynamic.onnx", input={"dynamic_size": True}, parents=PARENTS)
    large = make_model("large.onnx", input={"size_hw": (128, 192)}, parents=PARENTS)
    picture = folder / "a.png"
    found = predicted(capsys, "--model", dynamic, "--source", picture, "--tta", "flip,2", "--out", tmp_path / "o")
    halves, whole = [("left half", [20, 30, 60, 90]), ("left half", [60, 30, 100, 90])], ("whole", [20, 30, 100, 90])
    assert found == [*halves, whole]
    assert len(json.loads((tmp_path / "o" / "detections.json").read_text())[0]["detections"]) == 3
    flags = ("--tta-model", large, "--tta-merge", "vote")
    assert predicted(capsys, "--model", dynamic, "--source", picture, *flags) == [halves[0], whole]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--slice", "x"], "--slice 'x': expected N or HxW"),
        (["--slice", "64", "--slice-overlap", "1"], "overlap 1.0 of tiles"),
        (["--slice-overlap", "0.1"], "--slice-overlap: belongs to --slice"),
        (["--no-slice-full"], "--slice-full: belongs to --slice"),
        (["--tta", "mirror"], "--tta 'mirror': 'mirror' is neither flip nor a factor"),
        (["--tta", ""], "one view is no augmentation"),
        (["--tta", "flip,2"], "export it with --dynamic-size, or once for each size"),
        (["--tta-merge", "nms"], "--tta-merge: belongs to --tta"),
        (["--tta-model", "none.onnx"], "none.onnx"),
    ],
)
def test_flags_that_cannot_be_used(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    assert main(["predict", "--model", str(model), "--source", str(folder), *flags]) == 2
    assert words in capsys.readouterr().err


def test_parse_tta() -> None:
    assert parse_tta("flip") == (True, ())
    assert parse_tta("0.75, flip,1.25") == (True, (0.75, 1.25))
    with pytest.raises(BadInput):
        parse_tta("flip;2")

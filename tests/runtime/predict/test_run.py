from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import animated_png, encoded, many_scans, mutations, small_picture
from PIL import Image

from aweigh.runtime import BadInput, Detector
from aweigh.runtime.cli.main import main
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.predict.plan import PredictEvents, PredictPlan, PredictResult
from aweigh.runtime.predict.run import predict_sources

pytestmark = pytest.mark.usefixtures("only_runtime_verbs")


def collect(detector: Detector, sources: list[str], **options: Any) -> tuple[list[dict[str, Any]], PredictResult]:
    entries: list[dict[str, Any]] = []
    events = PredictEvents(on_result=lambda detections: entries.append(detections.to_dict()))
    result = predict_sources(detector, PredictPlan(sources, **options), events)
    assert result.count == len(entries)
    return entries, result


def test_entries_are_those_of_the_detector(model: Path, folder: Path) -> None:
    with Detector(model) as detector:
        entries, result = collect(detector, [str(folder)])
        expected = [detector(folder / name).to_dict() for name in ("a.png", "b.jpg", "more/a.png")]
    assert entries == expected
    assert not result.failures
    assert not result.saved
    assert [len(e["detections"]) for e in entries] == [2, 2, 0]


def test_out_keeps_names_and_folders(model: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Detector(model) as detector:
        entries, result = collect(detector, [str(folder)], conf=0.6, out=out)
    names = [str(p.relative_to(out)) for p in result.saved]
    assert names == ["a.png", "b.jpg", "more/a.png"]
    written = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert written == sorted([*names, "detections.json", "failures.json"])
    assert json.loads((out / "detections.json").read_text()) == entries
    assert json.loads((out / "failures.json").read_text()) == []
    drawn, plain = (read_image(p / "a.png") for p in (out, folder))
    assert drawn.shape == plain.shape
    assert (drawn != plain).any()
    assert [len(e["detections"]) for e in entries] == [1, 1, 0]


def test_formats_that_cannot_be_written_become_png(model: Path, make_picture: Any, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("x.gif", "x.gif.png"):
        Image.fromarray(make_picture()).save(folder / name)
    with Detector(model) as detector:
        saved = predict_sources(detector, PredictPlan([folder], out=tmp_path / "out")).saved
    assert [p.name for p in saved] == ["x.gif.png", "x.gif-2.png"]
    assert all(p.is_file() for p in saved)


def test_sources_are_never_overwritten(model: Path, folder: Path) -> None:
    before = (folder / "a.png").read_bytes()
    with Detector(model) as detector:
        with pytest.raises(BadInput, match=r"would overwrite the source .*a\.png"):
            predict_sources(detector, PredictPlan([folder], out=folder))
        with pytest.raises(BadInput, match="expected a folder, this is a file"):
            predict_sources(detector, PredictPlan([folder], out=folder / "notes.txt"))
    assert (folder / "a.png").read_bytes() == before
    assert not (folder / "detections.json").exists()


def test_a_picture_named_twice_is_taken_once(model: Path, folder: Path) -> None:
    with Detector(model) as detector:
        assert predict_sources(detector, PredictPlan([folder, folder / "a.png"])).count == 3


def test_a_single_source_is_no_list(folder: Path) -> None:
    with pytest.raises(BadInput, match="expected a list of sources"):
        PredictPlan(str(folder))


def run(*arguments: object) -> int:
    return main(["predict", *map(str, arguments)])


def test_json_on_stdout(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", model, "--source", folder / "a.png", "--json", "--conf", 0.3) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    (entry,) = json.loads(captured.out)
    assert set(entry) == {"file", "image", "drawn_above", "detections"}
    assert entry["file"] == str(folder / "a.png")
    assert entry["image"] == {"width": 192, "height": 128}
    assert entry["detections"][0] == {"box": [20, 30, 100, 90], "score": 1.0, "class_id": 3, "label": "whole"}


def test_words_on_stdout(model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"model={model}", f"source={folder}/*.png", f"out={tmp_path / 'o'}") == 0
    captured = capsys.readouterr()
    assert captured.out == f"{folder / 'a.png'}: 1 whole, 1 left half\n"
    assert "1 images and detections.json written" in captured.err


def test_pictures_are_drawn_at_the_best_thresholds_and_files_keep_all(
    make_model: Callable[..., Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best threshold of the left half, 0.7, lies above its score, 0.5."""
    model = make_model(best_conf=(0.7, 0.2))
    source = folder / "a.png"
    assert run("--model", model, "--source", source, "--out", tmp_path / "best") == 0
    captured = capsys.readouterr()
    assert captured.out == f"{source}: 1 whole\n"
    assert "scores above each class's best threshold (0.20 to 0.70)" in captured.err
    assert "result files keep all above 0.05" in captured.err
    (entry,) = json.loads((tmp_path / "best" / "detections.json").read_text())
    assert entry["drawn_above"] == {"3": 0.2, "17": 0.7}
    assert [d["score"] for d in entry["detections"]] == [1.0, 0.5]

    assert run("--model", model, "--source", source, "--out", tmp_path / "asked", "--conf", "0.4") == 0
    captured = capsys.readouterr()
    assert captured.out == f"{source}: 1 whole, 1 left half\n"
    assert "counted and drawn" not in captured.err
    (entry,) = json.loads((tmp_path / "asked" / "detections.json").read_text())
    assert entry["drawn_above"] is None
    one, two = (read_image(tmp_path / name / "a.png") for name in ("best", "asked"))
    assert (one != two).any()


@pytest.mark.parametrize("flags", [["--tta", "flip"], ["--slice", "96"]])
def test_several_views_draw_at_the_best_thresholds_too(
    make_model: Callable[..., Path], folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    model = make_model(best_conf=(0.7, 0.2))
    assert run("--model", model, "--source", folder / "a.png", *flags) == 0
    assert capsys.readouterr().out == f"{folder / 'a.png'}: 1 whole\n"


def test_unreadable_pictures_are_skipped_named_and_counted(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (folder / "b.jpg").read_bytes()
    (folder / "b.jpg").write_bytes(data[: len(data) // 2])
    (folder / "c.png").touch()
    assert run("--model", model, "--source", folder, "--json", "--out", tmp_path / "out") == 2
    captured = capsys.readouterr()
    entries = json.loads(captured.out)
    assert [Path(e["file"]).name for e in entries] == ["a.png", "a.png"]
    assert json.loads((tmp_path / "out" / "detections.json").read_text()) == entries
    assert f"skipped: {folder / 'b.jpg'}: truncated JPEG file" in captured.err
    assert f"skipped: {folder / 'c.png'}: not an image, the file is empty" in captured.err
    assert "2 of 4 images could not be read" in captured.err


def test_on_error_stop(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.png").touch()
    (folder / "a.png").write_bytes(b"")
    assert run("--model", model, "--source", folder, "--json", "--on-error", "stop") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"aweigh: {folder / 'a.png'}: not an image, the file is empty")


def test_only_unreadable_pictures(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.jpg").write_bytes(b"nothing")
    assert run("--model", model, "--source", tmp_path / "x.jpg", "--json") == 2
    assert json.loads(capsys.readouterr().out) == []


def test_conf_below_the_floor(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", model, "--source", folder, "--conf", 0.01) == 2
    assert "score threshold 0.05" in capsys.readouterr().err


def test_a_large_folder_goes_through_in_batches(
    model: Path, tmp_path: Path, make_picture: Callable[..., Any], write_picture: Callable[..., Path]
) -> None:
    for i in range(9):
        write_picture(tmp_path / "in" / f"{i}.png", make_picture(box_xyxy=(10 * i, 20, 100, 60)))
    with Detector(model) as detector:
        entries, _ = collect(detector, [str(tmp_path / "in")])
    lefts = [entry["detections"][0]["box"][0] for entry in entries]
    np.testing.assert_allclose(lefts, [10 * i for i in range(9)], atol=1)


def test_label_files_and_coco_results(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("a.png", "b.jpg", "more/a.png")
    annotations = tmp_path / "instances.json"
    annotations.write_text(json.dumps({"images": [{"file_name": n, "id": 40 + i} for i, n in enumerate(names)]}))
    out = tmp_path / "out"
    flags = ("--out", out, "--save-txt", "--save-conf", "--save-coco", annotations)
    assert run("--model", model, "--source", folder, *flags) == 0
    capsys.readouterr()
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.txt")) == [
        "labels/a.txt",
        "labels/b.txt",
        "labels/more/a.txt",
    ]
    assert (out / "labels/a.txt").read_text().splitlines()[0].split() == [
        "1",
        "0.3125",
        "0.46875",
        "0.416666667",
        "0.46875",
        "1.0",
    ]
    assert (out / "labels/more/a.txt").read_text() == ""
    rows = json.loads((out / "coco_results.json").read_text())
    assert [row["image_id"] for row in rows] == [40, 40, 41, 41]
    assert rows[0] == {"image_id": 40, "category_id": 3, "bbox": [20, 30, 80, 60], "score": 1.0}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--save-txt"], "written to --out: give a folder"),
        (["--out", "o", "--save-conf"], "--save-conf: belongs to --save-txt"),
        (["--out", "o", "--save-coco", "none.json"], "none.json: no such file"),
        (["--out", "o", "--save-coco", "few.json"], "no image id for"),
    ],
)
def test_results_that_cannot_be_written(
    model: Path, folder: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("few.json").write_text('{"images": [{"file_name": "b.jpg", "id": 1}]}')
    assert run("--model", model, "--source", folder, *flags) == 2
    assert words in capsys.readouterr().err
    assert not Path("o").exists()  # said before the first picture


def test_two_pictures_with_one_label_file(model: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "a.jpg").write_bytes((folder / "b.jpg").read_bytes())
    with Detector(model) as detector, pytest.raises(BadInput, match=r"a\.jpg and .*a\.png would share the labels"):
        predict_sources(detector, PredictPlan([folder], out=tmp_path / "out", labels="plain"))


def test_a_folder_of_files_that_break_decoders(model: Path, tmp_path: Path) -> None:
    """Every good image is done, every other one reported, by a process that a decoder's crash would end."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for i, data in enumerate([animated_png(damage_first=True), many_scans(3000), *mutations(60, seed=1)]):
        (folder / f"bad{i:02}.png").write_bytes(data)
    for i in range(5):
        (folder / f"good{i}.jpg").write_bytes(encoded(small_picture(), "JPEG"))
    command = [sys.executable, "-P", "-m", "aweigh.runtime.cli", "predict", "--model", str(model)]
    done = subprocess.run([*command, "--source", str(folder), "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    read = {Path(entry["file"]).name for entry in json.loads((out / "detections.json").read_text())}
    failed = {Path(entry["file"]).name for entry in json.loads((out / "failures.json").read_text())}
    assert read | failed == {path.name for path in folder.iterdir()}
    assert not read & failed
    assert {f"good{i}.jpg" for i in range(5)} <= read
    assert {"bad00.png", "bad01.png"} <= failed

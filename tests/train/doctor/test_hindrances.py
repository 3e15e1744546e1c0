"""What training refuses, the doctor reports as an error; and the images at random on its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aweigh.runtime.cli.main import main
from aweigh.train.doctor.report import examine_data
from tests.support.layouts import LAYOUTS, Item, make_items


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    return make_items(tmp_path_factory.mktemp("items"))


def errors(data: Path, **options: object) -> list[tuple[str, str]]:
    report = examine_data(str(data), model="nano", imgsz="64", **options)  # type: ignore[arg-type]
    return [
        (case.kind, case.file)
        for finding in report.examination.findings
        for case in finding.cases
        if case.kind in ("missing-split", "nothing-to-learn")
    ]


def test_a_missing_split_is_an_error_for_doctor_and_training(
    items: list[Item], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = LAYOUTS["coco-cvat-default"].write(tmp_path / "data", items)
    assert main(["doctor", "--data", str(data)]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "error: missing-split, default: 2" in printed
    assert "no split 'val'; there is default" in printed
    assert main(["train", "--data", str(data), "--model", "nano"]) == 2
    assert "no split 'train'; there is default" in capsys.readouterr().err
    assert errors(data) == [("missing-split", "train"), ("missing-split", "val")]
    assert errors(data, splits=("default",)) == []


def test_with_a_share_the_splits_are_there(
    items: list[Item], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = LAYOUTS["coco-cvat-default"].write(tmp_path / "data", items)
    flags = ["--val-share", "0.25", "--test-share", "0.2", "--split-seed", "1", "--imgsz", "64"]
    main(["doctor", "--data", str(data), *flags, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert [(split["name"], split["pictures"]) for split in report["splits"]] == [("train", 7), ("val", 3), ("test", 2)]
    assert not {finding["kind"] for finding in report["findings"]} & {"missing-split", "leakage"}


def test_nothing_annotated_in_training(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["coco-official"].write(tmp_path / "data", items)
    file = data / "annotations" / "instances_train2017.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    assert errors(data) == [("nothing-to-learn", "train2017")]


def test_the_page_shows_images_at_random(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["coco-official"].write(tmp_path / "data", items)
    report = examine_data(str(data), model="nano", imgsz="64", out=tmp_path / "report")
    assert report.page is not None
    text = report.page.read_text()
    section = text[text.index("Images at random") :].partition("</section>")[0]
    assert section.count("data:image/") == len(items) == 12
    assert all(f"{item.name} ({item.split}2017), {len(item.boxes)} objects" in section for item in items)
    assert report.examination.some(5) == report.examination.some(5)

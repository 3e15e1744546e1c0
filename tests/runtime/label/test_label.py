"""Labels for labelling tools: the same boxes in each format."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime import Detector
from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.runtime.label.run import LabelPlan, label_images
from aweigh.runtime.results.detections import Detections


@pytest.fixture
def found(model: Path, folder: Path) -> dict[str, Detections]:
    with Detector(model) as detector:
        paths = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))
        return {path.relative_to(folder).as_posix(): one for path, one in zip(paths, detector(paths), strict=True)}


@pytest.fixture
def out(model: Path, folder: Path, tmp_path: Path) -> Path:
    with Detector(model) as detector:
        return label_images(detector, "red", LabelPlan([folder], tmp_path / "labels", unsure=(0.4, 0.6))).out


def test_coco_and_cvats_archive_hold_the_boxes(out: Path, found: dict[str, Detections]) -> None:
    content = json.loads((out / "instances.json").read_text())
    with zipfile.ZipFile(out / "cvat.zip") as archive:
        assert json.loads(archive.read("annotations/instances_default.json")) == content
    assert {image["file_name"] for image in content["images"]} == found.keys()
    assert content["categories"] == [{"id": 17, "name": "left half"}, {"id": 3, "name": "whole"}]
    assert len({row["id"] for row in content["annotations"]}) == sum(len(one) for one in found.values())
    for image in content["images"]:
        expected = found[image["file_name"]]
        assert (image["height"], image["width"]) == expected.orig_shape
        rows = [row for row in content["annotations"] if row["image_id"] == image["id"]]
        boxes = np.array([row["bbox"] for row in rows]).reshape(-1, 4)
        np.testing.assert_allclose(np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]), expected.xyxy, atol=1e-4)
        assert [row["category_id"] for row in rows] == expected.cls.tolist()


def test_label_studio_gets_percents_its_configuration_and_the_models_version(
    out: Path, model: Path, found: dict[str, Detections]
) -> None:
    tasks = json.loads((out / "label-studio.json").read_text())
    config = ET.fromstring((out / "label-studio.xml").read_text())
    controls = {element.get("name"): element for element in config.iter() if element.get("name")}
    with Detector(model) as detector:
        version = f"red-{detector.backend.sha256[:12]}"
    for task in tasks:
        expected = found[task["data"]["image"].removeprefix("/data/local-files/?d=")]
        prediction = task["predictions"][0]
        assert prediction["model_version"] == version
        assert len(prediction["result"]) == len(expected)
        for row, box, class_id in zip(prediction["result"], expected.xyxy, expected.cls.tolist(), strict=True):
            value, size = row["value"], np.array([row["original_width"], row["original_height"]] * 2) / 100
            corners = [value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"]]
            np.testing.assert_allclose(np.array(corners) * size, box, atol=1e-4)
            assert value["rectanglelabels"] == [expected.names[class_id]]
            assert controls[row["from_name"]].get("toName") == row["to_name"]
            assert {label.get("value") for label in controls[row["from_name"]]} == {"left half", "whole"}


def test_the_images_to_look_at_first_are_those_with_unsure_scores(out: Path, found: dict[str, Detections]) -> None:
    counts = {name: int(((one.conf >= 0.4) & (one.conf <= 0.6)).sum()) for name, one in found.items()}
    assert (out / "first.txt").read_text().splitlines() == [name for name, count in counts.items() if count]
    assert sum(counts.values()) > 0


def test_the_command(model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "labels"
    command = ["label", "--model", str(model), "--source", str(folder), "--out", str(out)]
    assert main([*command, "--conf", "0.9", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["boxes"] == len(json.loads((out / "instances.json").read_text())["annotations"])
    assert main(command) == 2, "the folder is there"
    for flag, value in (("--unsure", "half"), ("--unsure", "0.6-0.4"), ("--conf", "3")):
        assert main([*command[:-1], str(tmp_path / "other"), flag, value]) == 2
        assert flag in capsys.readouterr().err


def test_an_image_that_cannot_be_read_is_left_out(model: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:50])
    with Detector(model) as detector:
        result = label_images(detector, "red", LabelPlan([folder], tmp_path / "labels"))
        assert [Path(failure.path).name for failure in result.failures] == ["cut.png"]
        assert result.images == 3
        with pytest.raises(BadInput):
            label_images(detector, "red", LabelPlan([tmp_path / "gone"], tmp_path / "other"))

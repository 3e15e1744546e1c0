"""The labels as the labelling tools' own readers see them; skipped where these are not installed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime import Detector
from aweigh.runtime.cli.main import main
from aweigh.runtime.label.run import LabelPlan, label_images
from aweigh.train.data.open import available_splits, load_split

pytestmark = pytest.mark.filterwarnings("default")  # theirs


@pytest.fixture
def out(model: Path, folder: Path, tmp_path: Path) -> Path:
    with Detector(model) as detector:
        return label_images(detector, "red", LabelPlan([folder], tmp_path / "labels", conf=0.1)).out


def written(out: Path) -> list[tuple[str, str, list[float]]]:
    """Image, class and box of each label."""
    content = json.loads((out / "instances.json").read_text())
    images = {image["id"]: image["file_name"] for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    rows = [(images[a["image_id"]], names[a["category_id"]], a["bbox"]) for a in content["annotations"]]
    assert len(rows) == 4
    return sorted(rows)


def require_same(
    found: list[tuple[str, str, list[float]]], expected: list[tuple[str, str, list[float]]], within_px: float
) -> None:
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    np.testing.assert_allclose([row[2] for row in found], [row[2] for row in expected], atol=within_px, rtol=0)


def require_corrected(data: Path, out: Path, within_px: float) -> None:
    """``--data`` reads a corrected export: every box as it was written, but for the one that was corrected."""
    (name,) = available_splits(data)
    split = load_split(data, name)
    assert split.faults == ()
    found = []
    for record in split.records:
        image = record.path.name.rpartition("__")[
            2
        ]  # Label Studio puts digits of a hash before the names of its copies
        for (x1, y1, x2, y2), label in zip(record.boxes_xyxy.tolist(), record.labels.tolist(), strict=True):
            found.append((image, split.categories[label].name, [x1, y1, x2 - x1, y2 - y1]))
    expected = [(Path(image).name, label, box) for image, label, box in written(out)]
    changed = [row for row in expected if row[:2] == WRONG]
    assert len(changed) == 1
    expected.remove(changed[0])
    require_same(sorted(found), sorted([*expected, RIGHT]), within_px)
    assert main(["doctor", "--data", str(data)]) in (0, 1)  # 1: a set without train and val cannot be trained on yet


# One box is of another class, and was drawn anew.
WRONG = ("a.png", "left half")
RIGHT = ("a.png", "whole", [12.0, 24.0, 48.0, 60.0])


def test_datumaro_reads_the_archive_for_cvat(out: Path, tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    with zipfile.ZipFile(out / "cvat.zip") as archive:
        archive.extractall(tmp_path / "cvat")
    dataset = datumaro.Dataset.import_from(str(tmp_path / "cvat"), "coco")
    labels = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
    found = [(item.id, labels[box.label], [box.x, box.y, box.w, box.h]) for item in dataset for box in item.annotations]
    expected = [(str(Path(name).with_suffix("")), label, box) for name, label, box in written(out)]
    require_same(sorted(found), sorted(expected), within_px=0.01)  # it rounds to hundredths


def test_what_datumaro_writes_for_cvat_comes_back(out: Path, folder: Path, tmp_path: Path) -> None:
    """CVAT exports COCO 1.0 by datumaro; the images are where they were."""
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    with zipfile.ZipFile(out / "cvat.zip") as archive:
        archive.extractall(tmp_path / "cvat")
    dataset = datumaro.Dataset.import_from(str(tmp_path / "cvat"), "coco")
    labels = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
    item = next(item for item in dataset if item.id == "a")
    for at, box in enumerate(item.annotations):
        if labels[box.label] == WRONG[1]:
            item.annotations[at] = datumaro.Bbox(*RIGHT[2], label=labels.index(RIGHT[1]), id=box.id, group=box.group)
    dataset.put(item)
    dataset.export(str(tmp_path / "back"), "coco_instances", save_media=False)
    (folder / "annotations").mkdir()
    for file in (tmp_path / "back" / "annotations").glob("*.json"):
        file.rename(folder / "annotations" / file.name)
    require_corrected(folder, out, within_px=0.02)


@pytest.mark.parametrize(("form", "within_px"), [("coco", 1e-4), ("yolo", 1e-4), ("voc", 1.0)])
def test_what_label_studio_exports_comes_back(
    form: str, within_px: float, out: Path, folder: Path, tmp_path: Path
) -> None:
    """A person accepts all predictions but one, which gets another box and class; exported with the images."""
    reason = "label-studio-sdk is not installed"
    converter = pytest.importorskip("label_studio_sdk.converter", reason=reason)
    io = pytest.importorskip("label_studio_sdk._extensions.label_studio_tools.core.utils.io", reason=reason)
    tasks = json.loads((out / "label-studio.json").read_text())
    for number, task in enumerate(tasks, start=1):
        results = [dict(row) for row in task["predictions"][0]["result"]]
        for row in results:
            if task["data"]["image"].endswith("?d=a.png") and row["value"]["rectanglelabels"] == [WRONG[1]]:
                x, y, width, height = RIGHT[2]
                size = row["original_width"] / 100, row["original_height"] / 100
                row["value"] = {
                    **row["value"],
                    "x": x / size[0],
                    "y": y / size[1],
                    "width": width / size[0],
                    "height": height / size[1],
                    "rectanglelabels": [RIGHT[1]],
                }
        task["id"] = number
        task["annotations"] = [{"id": number, "was_cancelled": False, "result": results}]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    config = (out / "label-studio.xml").read_text()
    made = converter.Converter(config=config, project_dir=str(tmp_path), download_resources=True)
    with io.local_files_resolver(lambda name: str(folder / name)):  # as the server of Label Studio finds its files
        write = getattr(made, f"convert_to_{form}")
        write(str(tmp_path / "tasks.json"), output_dir=str(tmp_path / "back"), is_dir=False)
    require_corrected(tmp_path / "back", out, within_px)


def test_label_studio_reads_its_tasks(out: Path, tmp_path: Path) -> None:
    reason = "label-studio-sdk is not installed"
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason=reason)
    converter = pytest.importorskip("label_studio_sdk.converter", reason=reason)
    config = (out / "label-studio.xml").read_text()
    interface.LabelInterface(config).validate()
    tasks = json.loads((out / "label-studio.json").read_text())
    for number, task in enumerate(tasks, start=1):  # as accepted by a person
        assert all(interface.LabelInterface(config).validate_prediction(one) for one in task["predictions"])
        task["id"] = number
        task["annotations"] = [{**one, "id": number, "was_cancelled": False} for one in task["predictions"]]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    made = converter.Converter(config=config, project_dir=str(tmp_path), download_resources=False)
    made.convert_to_coco(str(tmp_path / "tasks.json"), output_dir=str(tmp_path / "back"), is_dir=False)
    content = json.loads((tmp_path / "back" / "result.json").read_text())
    images = {image["id"]: image["file_name"].rpartition("=")[2] for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = [(images[a["image_id"]], names[a["category_id"]], a["bbox"]) for a in content["annotations"]]
    require_same(sorted(found), written(out), within_px=1e-6)

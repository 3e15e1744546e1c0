"""The labels as the labelling tools' own readers see them; skipped where these are not installed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime import Detector
from aweigh.runtime.label.run import LabelPlan, label_images

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


def test_datumaro_reads_the_archive_for_cvat(out: Path, tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    with zipfile.ZipFile(out / "cvat.zip") as archive:
        archive.extractall(tmp_path / "cvat")
    dataset = datumaro.Dataset.import_from(str(tmp_path / "cvat"), "coco")
    labels = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
    found = [(item.id, labels[box.label], [box.x, box.y, box.w, box.h]) for item in dataset for box in item.annotations]
    expected = [(str(Path(name).with_suffix("")), label, box) for name, label, box in written(out)]
    require_same(sorted(found), sorted(expected), within_px=0.01)  # it rounds to hundredths


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

"""Every kind of fault planted in copies of BCCD, VOC's and COCO's format: each is found, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image

from aweigh.runtime.cli.main import main
from aweigh.train.data.open import load_split
from aweigh.train.doctor.findings import KINDS

Found = set[tuple[str, str]]

# What is in BCCD as it was published.
OWN = {
    ("zero-size", "BloodImage_00338.jpg"),
    ("zero-size", "BloodImage_00343.jpg"),
    ("leakage", "BloodImage_00038.jpg"),
}


@pytest.fixture(scope="module")
def bccd() -> Path:
    material = os.environ.get("AWEIGH_TEST_DATA")
    if not material:
        pytest.skip("AWEIGH_TEST_DATA names no folder with test material")
    return Path(material) / "datasets" / "bccd"


def doctor(data: Path, capsys: pytest.CaptureFixture[str], *flags: str, code: int = 1) -> dict[str, Any]:
    assert main(["doctor", "--data", str(data), "--json", *flags]) == code
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def found_in(report: dict[str, Any]) -> Found:
    return {(finding["kind"], case["file"]) for finding in report["findings"] for case in finding["cases"]}


class Tree:
    """A copy in VOC's format, of real files where they are changed, else of links."""

    def __init__(self, source: Path, root: Path) -> None:
        self.root, self.planted = root, set[tuple[str, str]]()
        shutil.copytree(source / "Annotations", root / "Annotations")
        shutil.copytree(source / "ImageSets", root / "ImageSets")
        (root / "JPEGImages").mkdir()
        for picture in (source / "JPEGImages").iterdir():
            (root / "JPEGImages" / picture.name).symlink_to(picture)
        self._stems = {name: self.listed(name) for name in ("train", "val")}

    def listed(self, split: str) -> list[str]:
        return (self.root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()

    def list(self, split: str, *stems: str) -> None:
        path = self.root / "ImageSets" / "Main" / f"{split}.txt"
        path.write_text("\n".join([*path.read_text().split(), *stems]) + "\n")

    def take(self, split: str = "train") -> str:
        """A picture of its own for each fault, without a known fault and with an RBC of 60 px or more."""
        while True:
            stem = self._stems[split].pop()
            boxes = [self.corners(item) for item in self.xml(stem).iter("object") if item.findtext("name") == "RBC"]
            if boxes and min(boxes[0][2] - boxes[0][0], boxes[0][3] - boxes[0][1]) > 60:
                return stem

    def picture(self, stem: str) -> Path:
        """The file, a copy from now on."""
        path = self.root / "JPEGImages" / f"{stem}.jpg"
        if path.is_symlink():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
        return path

    def xml(self, stem: str) -> ElementTree.Element:
        return ElementTree.parse(self.root / "Annotations" / f"{stem}.xml").getroot()

    def write(self, stem: str, root: ElementTree.Element) -> None:
        ElementTree.ElementTree(root).write(self.root / "Annotations" / f"{stem}.xml")

    @staticmethod
    def corners(item: ElementTree.Element) -> list[float]:
        return [float(item.findtext(f"bndbox/{key}") or "nan") for key in ("xmin", "ymin", "xmax", "ymax")]

    def box(self, kind: str, xyxy: list[Any], name: str = "RBC", split: str = "train") -> str:
        """Add an object; the name of the picture is expected in a finding of this kind."""
        stem = self.take(split)
        root = self.xml(stem)
        self.append(root, xyxy, name)
        self.write(stem, root)
        self.planted.add((kind, f"{stem}.jpg"))
        return stem

    @staticmethod
    def append(root: ElementTree.Element, xyxy: list[Any], name: str) -> None:
        item = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(item, "name").text = name
        corners = ElementTree.SubElement(item, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), xyxy, strict=True):
            ElementTree.SubElement(corners, key).text = str(value)

    def beside_the_first(self, kind: str, shift: float, name: str | None = None) -> None:
        """A second box on the first red cell."""
        stem = self.take()
        root = self.xml(stem)
        first = next(item for item in root.iter("object") if item.findtext("name") == "RBC")
        x1, y1, x2, y2 = self.corners(first)
        self.append(root, [x1, y1, x2, y2 - shift], name or "RBC")
        self.write(stem, root)
        self.planted.add((kind, f"{stem}.jpg"))

    def again(self, kind: str, split: str) -> None:
        """A picture of the training split, smaller and coded again, under another name."""
        stem, copy = self.take(), f"copy_in_{split}"
        image = cv2.imread(str(self.picture(stem)))
        small = cv2.resize(image, (480, 360), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(self.root / "JPEGImages" / f"{copy}.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 60])
        root = ElementTree.Element("annotation")
        self.append(root, [20, 20, 90, 90], "RBC")
        self.write(copy, root)
        self.list(split, copy)
        self.planted.add((kind, f"{stem}.jpg"))


@pytest.fixture
def tree(bccd: Path, tmp_path: Path) -> Tree:
    return Tree(bccd, tmp_path / "bccd")


def plant_boxes(tree: Tree) -> None:
    tree.box("zero-size", [100, 100, 100, 150])
    tree.box("negative-size", [200, 100, 120, 160])
    tree.box("outside", [700, 100, 760, 160])
    tree.box("clipped", [600, 100, 700, 180])
    tree.box("not-finite", ["nan", 100, 200, 160])
    tree.box("giant-box", [0, 0, 640, 480], "WBC")
    # The input is 0.6 of the picture; its points lie at 4, 12, 20 ... px, the next level's at 8, 24 ...
    tree.box("too-small", [95, 95, 107, 107])
    tree.box("no-level", [101, 101, 112, 112])
    tree.beside_the_first("duplicate-box", 0)
    tree.beside_the_first("labelled-twice", 2)
    tree.beside_the_first("two-classes", 2, "WBC")
    crowd, empty = tree.take(), tree.take()
    root = tree.xml(crowd)
    for i in range(120):
        x, y = i % 12 * 53, i // 12 * 48
        tree.append(root, [x, y, x + 40, y + 40], "Platelets")
    tree.write(crowd, root)
    tree.write(empty, ElementTree.Element("annotation"))
    tree.planted |= {("crowded", f"{crowd}.jpg"), ("no-objects", f"{empty}.jpg")}


def plant_classes(tree: Tree) -> None:
    for kind, name, split in (
        ("untrained-class", "Basophil", "val"),
        ("unmeasured-class", "Eosinophil", "train"),
        ("similar-names", "Platelet", "train"),
    ):
        stem = tree.box(kind, [300, 200, 360, 260], name, split)
        tree.planted -= {(kind, f"{stem}.jpg")}
    tree.planted |= {
        ("untrained-class", "Basophil"),
        ("similar-names", "Platelet, Platelets"),
        *{(kind, name) for kind in ("unmeasured-class", "rare-class") for name in ("Eosinophil", "Platelet")},
    }


def plant_pictures(tree: Tree) -> None:
    gone, cut, turned, upside_down, resized = (tree.take() for _ in range(5))
    tree.picture(gone).unlink()
    content = tree.picture(cut).read_bytes()
    tree.picture(cut).write_bytes(content[: len(content) // 2])
    for stem, orientation in ((turned, 6), (upside_down, 3)):
        exif = Image.Exif()
        exif[0x112] = orientation
        Image.open(tree.picture(stem)).save(tree.picture(stem), exif=exif)
    root = tree.xml(resized)
    for key in ("size/width", "size/height"):
        next(iter(root.iterfind(key))).text = "300"
    tree.write(resized, root)
    tree.again("near-duplicate", "train")
    tree.again("leakage", "val")
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    cv2.imwrite(str(tree.root / "JPEGImages" / "unlisted.jpg"), noise)
    tree.planted |= {
        ("missing-picture", f"{gone}.jpg"),
        ("broken-picture", f"{cut}.jpg"),
        ("exif-orientation", f"{turned}.jpg"),
        ("exif-turned", f"{upside_down}.jpg"),
        ("size-mismatch", f"{resized}.jpg"),
        ("unlisted-picture", "unlisted.jpg"),
    }


def plant_annotations(tree: Tree) -> None:
    without, broken, twice = tree.take(), tree.take(), tree.take()
    (tree.root / "Annotations" / f"{without}.xml").unlink()
    (tree.root / "Annotations" / f"{broken}.xml").write_text("<annotation><object>")
    tree.list("train", twice)
    tree.planted |= {
        ("missing-annotation", f"{without}.xml"),
        ("unreadable-annotation", f"{broken}.xml"),
        ("duplicate-picture", twice),
    }


def plant_two_images_of_one_stem(tree: Tree) -> None:
    """The annotation names neither of them."""
    stem = tree.take()
    root = tree.xml(stem)
    name = root.find("filename")
    assert name is not None
    name.text = "another.jpg"
    tree.write(stem, root)
    picture = tree.picture(stem)
    picture.with_suffix(".png").write_bytes(picture.read_bytes())
    tree.planted.add(("ambiguous-image", picture.name))


VOC: tuple[Callable[[Tree], None], ...] = (
    plant_boxes,
    plant_classes,
    plant_pictures,
    plant_annotations,
    plant_two_images_of_one_stem,
)
# An image without a label file; tests/train/data/formats/test_yolo_labels.py has it.
OTHER_FORMATS_ONLY = {"no-label-file", "not-annotated", "no-class-names", "root-category"}
# Refused without a flag; tests/train/data/test_outside.py has it.
WITH_A_FLAG = {"outside-folder"}
# The data set has the splits and the objects that training needs.
OF_PAA = {"unsuited"}  # tests/train/run/test_options_for.py
HINDRANCES = {"missing-split", "nothing-to-learn"}
# VOC's format has no such thing.
COCO_ONLY = {
    "unknown-category",
    "unknown-picture",
    "duplicate-annotation",
    "duplicate-file",
    "empty-class",
    "different-categories",
}


def test_bccd_itself(bccd: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = doctor(bccd, capsys, "--out", str(tmp_path / "out"))
    twice = {(kind, file) for kind, file in found_in(report) if kind == "labelled-twice"}
    assert found_in(report) - twice == OWN
    assert len(twice) == 7
    assert report["input"]["size_hw"] == [288, 384]
    assert [split["pictures"] for split in report["splits"]] == [205, 87, 72]
    assert sum(level["objects"] for level in report["sizes"]["train"]["levels"]) == report["splits"][0]["objects"]
    assert json.loads((tmp_path / "out" / "doctor.json").read_text()) == report
    page = (tmp_path / "out" / "doctor.html").read_text()
    # a dozen at random, zero-size, twice, and the pair that leaks
    assert page.count("data:image/jpeg;base64,") == 12 + 2 + len(twice) + 2
    assert "http" not in page.replace("http-equiv", "")


def test_every_fault_planted_is_found_and_no_other(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    before = found_in(doctor(tree.root, capsys))
    for plant in VOC:
        plant(tree)
    after = found_in(doctor(tree.root, capsys))
    assert after - before == tree.planted
    assert before - after == set()
    assert after >= OWN
    assert {kind for kind, _ in tree.planted} == set(
        KINDS
    ) - COCO_ONLY - OTHER_FORMATS_ONLY - WITH_A_FLAG - HINDRANCES - OF_PAA


def test_what_only_coco_can_have(bccd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "annotations").mkdir()
    for name in ("train", "val"):
        split = load_split(bccd, name)
        records = split.records[:20]
        (tmp_path / name).mkdir()
        for record in records:
            (tmp_path / name / record.path.name).symlink_to(record.path)
        annotations = [
            {
                "image_id": i,
                "category_id": split.categories[label].id,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
            }
            for i, record in enumerate(records)
            for (x1, y1, x2, y2), label in zip(record.boxes_xyxy.tolist(), record.labels.tolist(), strict=True)
        ]
        images = [{"id": i, "file_name": r.path.name, "width": 640, "height": 480} for i, r in enumerate(records)]
        categories = [{"id": c.id, "name": c.name} for c in split.categories]
        first = {"image_id": 0, "bbox": [5, 5, 50, 50]}
        if name == "train":
            images.append({"id": 99, "file_name": images[3]["file_name"], "width": 640, "height": 480})
            categories.append({"id": 50, "name": "Basophil"})
            annotations += [
                {**first, "category_id": 7},
                {**first, "category_id": 1, "image_id": 1234},
                {**first, "category_id": 2, "bbox": [300, 300, 51, 52], "id": 7},
                {**first, "category_id": 2, "bbox": [400, 200, 51, 52], "id": 7},
            ]
            expected = {
                ("duplicate-file", images[3]["file_name"]),
                ("unknown-category", images[0]["file_name"]),
                ("unknown-picture", "instances_train.json"),
                ("duplicate-annotation", images[0]["file_name"]),
                ("empty-class", "Basophil"),
                ("different-categories", "train"),
            }
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    found = found_in(doctor(tmp_path, capsys))
    assert {(kind, file) for kind, file in found if kind in COCO_ONLY} == expected
    assert {kind for kind, _ in found} - COCO_ONLY <= {"leakage", "labelled-twice", "rare-class", "zero-size"}

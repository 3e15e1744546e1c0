from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from aweigh.runtime.errors import BadInput
from aweigh.train.data.open import available_splits, load_split
from aweigh.train.data.records import Split
from aweigh.train.data.shapes import SHAPES, generate_shapes


def content(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two, other = (
        generate_shapes(tmp_path / name, 4, 2, 1, (96, 96), seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert content(one) == content(two)
    assert content(one)["train/000001.jpg"] != content(other)["train/000001.jpg"]
    assert available_splits(one) == ("test", "train", "val")


def test_a_picture_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few, many = (generate_shapes(tmp_path / str(n), n, n, size_hw=(96, 96)) for n in (2, 4))
    for name in ("train/000002.jpg", "val/000001.jpg"):
        assert content(few)[name] == content(many)[name]
    assert content(few)["train/000001.jpg"] != content(few)["val/000001.jpg"]


def test_the_annotations_are_coco_s_and_without_fault(shapes_dir: Path, shapes_train: Split) -> None:
    coco = COCO(str(shapes_dir / "annotations" / "instances_train.json"))
    assert sorted(coco.getCatIds()) == [c.id for c in SHAPES] == [3, 7, 11, 18, 24, 90]
    assert len(coco.getImgIds()) == 24
    assert shapes_train.faults == ()
    assert shapes_train.categories == SHAPES
    for annotation in coco.loadAnns(coco.getAnnIds()):
        assert 0 < annotation["area"] <= annotation["bbox"][2] * annotation["bbox"][3] * 1.1 + 4


def test_pictures_vary(tmp_path: Path) -> None:
    split = load_split(generate_shapes(tmp_path / "s", train=150, val=0, seed=3), "train")
    counts = [len(record.labels) for record in split.records]
    assert min(counts) == 0
    assert max(counts) == 6
    labels = np.concatenate([record.labels for record in split.records])
    assert np.bincount(labels, minlength=6).min() > 40
    boxes = np.concatenate([record.boxes_xyxy for record in split.records])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert sides.min() >= 5
    assert 95 < sides.max() <= 0.6 * 192 + 1


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(BadInput, match="not an empty folder"):
        generate_shapes(tmp_path, 1, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    assert (generate_shapes(tmp_path / "empty", 1, 0, size_hw=(64, 64)) / "train" / "000001.jpg").is_file()


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> str:
        raise OSError("no space left")

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(OSError, match="no space"):
        generate_shapes(tmp_path / "s", 1, 1, size_hw=(64, 64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [{"train": -1}, {"train": 0, "val": 0}, {"size_hw": (20, 200)}])
def test_numbers_without_sense(tmp_path: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="shapes: "):
        generate_shapes(tmp_path / "s", **arguments)  # type: ignore[arg-type]

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from aweigh.runtime.errors import BadInput
from aweigh.train.data.open import available_splits, load_split


@pytest.fixture
def yolo_tree(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """images/{train,val,more} with labels beside; 60x40 pictures."""
    for i, name in enumerate(("train/a", "train/b", "val/c", "more/d")):
        picture(tmp_path / "images" / f"{name}.jpg", seed=i)
        (tmp_path / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "labels/train/a.txt").write_text("0 0.5 0.5 0.5 0.25\n\n2 0.25 0.25 0.5 0.5\n")
    (tmp_path / "labels/val/c.txt").write_text("2.0 0.1 0.1 0.9 0.1 0.9 0.5 0.2 0.6\n")
    return tmp_path


def write_yaml(root: Path, **content: Any) -> Path:
    (root / "data.yaml").write_text(yaml.safe_dump({"names": ["x", "y", "z"], **content}))
    return root


def test_folders_and_names(yolo_tree: Path) -> None:
    root = write_yaml(yolo_tree, train="images/train", val="images/val", test=None)
    assert available_splits(root) == available_splits(root / "data.yaml") == ("train", "val")
    train, val = load_split(root, "train"), load_split(root / "data.yaml", "valid")
    assert train.names == {0: "x", 1: "y", 2: "z"}
    assert [record.image_id for record in train.records] == ["images/train/a.jpg", "images/train/b.jpg"]
    np.testing.assert_allclose(train.records[0].boxes_xyxy, [[15, 15, 45, 25], [0, 0, 30, 20]])
    np.testing.assert_array_equal(train.records[0].labels, [0, 2])
    assert len(train.records[1].labels) == 0
    # An outline stands for its bounding box.
    np.testing.assert_allclose(val.records[0].boxes_xyxy, [[6, 4, 54, 24]], rtol=1e-6)


def test_ids_are_the_keys_of_names(yolo_tree: Path) -> None:
    root = write_yaml(yolo_tree, train="images/train", names={0: "x", 2: "q", 40: "far"})
    split = load_split(root, "train")
    assert split.names == {0: "x", 2: "q", 40: "far"}
    np.testing.assert_array_equal(split.records[0].labels, [0, 1])


def test_lists_of_folders_and_of_files(yolo_tree: Path) -> None:
    (yolo_tree / "files.txt").write_text("images/train/b.jpg\n./images/val/c.jpg\n")
    root = write_yaml(yolo_tree, train=["images/train", "images/more"], val="files.txt")
    assert [record.path.name for record in load_split(root, "train").records] == ["a.jpg", "b.jpg", "d.jpg"]
    assert [record.path.name for record in load_split(root, "val").records] == ["b.jpg", "c.jpg"]


def test_path_and_roboflow_s_way_up(yolo_tree: Path) -> None:
    (yolo_tree / "conf").mkdir()
    write_yaml(yolo_tree / "conf", path="..", train="images/train", val="../images/val")
    assert len(load_split(yolo_tree / "conf", "train").records) == 2
    root = write_yaml(yolo_tree, train="../images/train")
    assert len(load_split(root, "train").records) == 2


def test_only_the_last_folder_named_images_is_replaced(tmp_path: Path, picture: Callable[..., Path]) -> None:
    root = tmp_path / "images" / "set"
    picture(root / "images" / "a.jpg")
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text("0 .5 .5 .5 .5")
    assert len(load_split(write_yaml(root, train="images"), "train").records[0].labels) == 1


def test_faulty_lines(yolo_tree: Path) -> None:
    lines = [
        "0 0.5 0.5 0.5",
        "0 a b c d",
        "7 .5 .5 .1 .1",
        "x .5 .5 .1 .1",
        "1 nan .5 .1 .1",
        "1 .5 .5 0 .1",
        "1 .5 .5 .1 -.1",
    ]
    lines += ["1 1.5 .5 .1 .1", "1 1 .5 .5 .5"]
    (yolo_tree / "labels/train/a.txt").write_text("\n".join(lines))
    (yolo_tree / "labels/train/b.txt").write_bytes(b"\xff\xfe\x00\x9f")
    split = load_split(write_yaml(yolo_tree, train="images/train"), "train")
    assert [fault.kind for fault in split.faults] == [
        "unreadable-annotation",
        "unreadable-annotation",
        "unknown-category",
        "unknown-category",
        "unreadable-annotation",
        "not-finite",
        "zero-size",
        "negative-size",
        "outside",
        "clipped",
    ]
    assert "a.txt line 3" in split.faults[2].detail
    np.testing.assert_allclose(split.records[0].boxes_xyxy, [[45, 10, 60, 30]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"names": []}, "list of categories is empty"),
        ({"names": None}, "names: expected a list"),
        ({"names": {"a": "b"}}, "names: expected a list"),
        ({"train": "images/nowhere"}, "is not there"),
        ({"train": "labels"}, "no images in it"),
        ({"train": None}, "names no split"),
    ],
)
def test_a_yaml_that_cannot_be_used(yolo_tree: Path, content: dict[str, Any], message: str) -> None:
    root = write_yaml(yolo_tree, **{"train": "images/train", **content})
    with pytest.raises(BadInput, match=message):
        load_split(root, "train")


@pytest.mark.parametrize("text", ["a: [", "- a", ""])
def test_no_yaml(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"not YAML|expected keys"):
        load_split(tmp_path, "train")

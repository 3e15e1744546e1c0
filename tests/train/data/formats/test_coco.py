from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category
from aweigh.train.data.open import available_splits, load_split


def test_ids_are_kept_and_labels_follow_the_order_of_ids(coco_tree: Callable[..., Any]) -> None:
    split = coco_tree().add(101, [10, 5, 20, 30], 1000003).add(101, [0, 0, 60, 40], 90).add(100, [1, 2, 3, 4], 7).load()
    assert split.categories == (Category(7, "dog"), Category(90, "cat"), Category(1000003, "bird"))
    assert split.names == {7: "dog", 90: "cat", 1000003: "bird"}
    assert [record.image_id for record in split.records] == [100, 101, 102]
    np.testing.assert_array_equal(split.records[1].boxes_xyxy, [[10, 5, 30, 35], [0, 0, 60, 40]])
    np.testing.assert_array_equal(split.records[1].labels, [2, 1])
    assert split.faults == ()


def test_a_picture_without_objects_is_a_negative(coco_tree: Callable[..., Any]) -> None:
    record = coco_tree().add(101, [10, 5, 20, 30]).load().records[0]
    assert record.boxes_xyxy.shape == (0, 4)
    assert record.boxes_xyxy.dtype == np.float32
    assert record.labels.dtype == np.int64


def test_crowd_and_area_are_kept(coco_tree: Callable[..., Any]) -> None:
    tree = (
        coco_tree()
        .add(100, [1, 2, 30, 20], iscrowd=1, area=17.5)
        .add(100, [1, 2, 3, 4])
        .add(100, [1, 2, 3, 4], area=-1)
    )
    record = tree.load().records[0]
    np.testing.assert_array_equal(record.crowd, [True, False, False])
    np.testing.assert_array_equal(record.areas, [17.5, 12, 12])
    np.testing.assert_array_equal(record.targets, [False, True, True])
    assert not record.difficult.any()


@pytest.mark.parametrize("asked", ["val", "valid", "validation", "val2017"])
def test_a_split_answers_to_its_other_names(coco_tree: Callable[..., Any], asked: str) -> None:
    root = coco_tree(split="val2017").write()
    assert load_split(root, asked).name == "val2017"


def test_ambiguous_and_missing_splits_are_refused(coco_tree: Callable[..., Any]) -> None:
    coco_tree(split="val2014").write()
    root = coco_tree(split="val2017").write()
    assert available_splits(root) == ("val2014", "val2017")
    assert load_split(root, "val2014").name == "val2014"
    with pytest.raises(BadInput, match="any of val2014, val2017"):
        load_split(root, "val")
    with pytest.raises(BadInput, match=r"no split 'train'; there is val2014, val2017"):
        load_split(root, "train")


@pytest.mark.parametrize("folder", ["train", "images/train", "images", ""])
def test_pictures_are_found_where_custom_puts_them(tmp_path: Path, picture: Callable[..., Path], folder: str) -> None:
    picture(tmp_path / folder / "a.png")
    images = [{"id": "x", "file_name": "a.png", "width": 60, "height": 40}]
    (tmp_path / "train.json").write_text(json.dumps({"images": images, "categories": [{"id": 0, "name": "thing"}]}))
    split = load_split(tmp_path, "train")
    assert split.records[0].path == tmp_path / folder / "a.png"
    assert split.records[0].image_id == "x"


def test_roboflow_export(tmp_path: Path, picture: Callable[..., Path]) -> None:
    for name in ("train", "valid"):
        picture(tmp_path / name / "a.jpg")
        content = {
            "images": [{"id": 0, "file_name": "a.jpg", "width": 60, "height": 40}],
            "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [1.5, 2, 10, 20.25]}],
            "categories": [{"id": 0, "name": "cells"}, {"id": 1, "name": "RBC"}],
        }
        (tmp_path / name / "_annotations.coco.json").write_text(json.dumps(content))
    assert available_splits(tmp_path) == ("train", "valid")
    split = load_split(tmp_path, "val")
    np.testing.assert_array_equal(split.records[0].boxes_xyxy, [[1.5, 2, 11.5, 22.25]])
    assert split.records[0].path.parent.name == "valid"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected a COCO object"),
        ('{"images": [], "categories": 3}', "expected a COCO object"),
        ('{"images": [], "categories": []}', "list of categories is empty"),
        ('{"images": [], "categories": [{"id": "a", "name": "b"}]}', "integer id and a name"),
        ('{"images": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "used twice: \\[1\\]"),
        ('{"images": [], "categories": [{"id": 1, "name": "a"}]}', "no usable image"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "a"}]}', "none of its first"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(BadInput, match=message):
        load_split(tmp_path, "train")


def test_not_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        load_split(tmp_path / "nowhere", "train")
    with pytest.raises(BadInput, match="no data set recognised"):
        load_split(tmp_path, "train")
    (tmp_path / "a.zip").touch()
    with pytest.raises(BadInput, match=r"a folder or a data\.yaml"):
        load_split(tmp_path / "a.zip", "train")

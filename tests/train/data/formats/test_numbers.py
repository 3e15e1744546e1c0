"""JSON has one kind of number: ids as decimals, and numbers beyond every range."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.data.open import load_split
from tests.support.cases import case

GOOD = [10, 5, 20, 30]


@pytest.mark.parametrize("name", ["category-float", "all-floats"])
def test_the_samples_ids(tmp_path: Path, name: str) -> None:
    split = load_split(case("coco-ids-as-floats", tmp_path) / name, "train")
    assert not split.faults
    assert [record.image_id for record in split.records] == [1]
    np.testing.assert_array_equal(split.records[0].labels, [1])
    np.testing.assert_array_equal(split.records[0].boxes_xyxy, [[1, 2, 31, 42]])


def test_the_samples_beyond_64_bits(tmp_path: Path) -> None:
    root = case("category-id-beyond-int64", tmp_path)
    with pytest.raises(BadInput, match=r"instances_train.json: category .*9223372036854775813"):
        load_split(root / "data", "train")
    np.testing.assert_array_equal(load_split(root / "area-huge", "train").records[0].areas, [1200])


@pytest.mark.parametrize("id_", [2**63, -(2**63) - 1, 10**300, 1e300, 1.5, float("inf"), float("nan"), True, None, "1"])
def test_no_category_has_such_an_id(coco_tree: Callable[..., Any], id_: Any) -> None:
    tree = coco_tree()
    tree.content["categories"] = [{"id": id_, "name": "cat"}]
    with pytest.raises(BadInput, match=r"instances_train2017.json: category"):
        tree.load()


@pytest.mark.parametrize("id_", [2**63 - 1, -(2**63), 0, -5, 7.0, -0.0])
def test_every_id_of_64_bits_is_kept(coco_tree: Callable[..., Any], id_: Any) -> None:
    tree = coco_tree().add(100.0, GOOD, id_)
    tree.content["categories"] = [{"id": id_, "name": "cat"}]
    split = tree.load()
    assert not split.faults
    assert [category.id for category in split.categories] == [int(id_)]
    assert len(split.records[0].labels) == 1


def test_the_same_id_in_two_spellings_comes_twice(coco_tree: Callable[..., Any]) -> None:
    tree = coco_tree()
    tree.content["categories"] = [{"id": 1, "name": "cat"}, {"id": 1.0, "name": "dog"}]
    with pytest.raises(BadInput, match="used twice"):
        tree.load()


@pytest.mark.parametrize("area", [10**400, -(10**400), 1e999, -1, None, "9", True, [1]])
def test_an_area_that_is_none_is_the_box_s(coco_tree: Callable[..., Any], area: Any) -> None:
    split = coco_tree().add(100, GOOD, area=area).load()
    np.testing.assert_array_equal(split.records[0].areas, [600])


def test_sizes_as_decimals_are_compared(coco_tree: Callable[..., Any]) -> None:
    tree = coco_tree()
    tree.content["images"][0] |= {"width": 60.0, "height": 40.0}
    tree.content["images"][1] |= {"width": 61.0, "height": 40.0}
    split = tree.load()
    assert [(fault.kind, fault.file) for fault in split.faults] == [("size-mismatch", "1.jpg")]


@pytest.mark.parametrize("name", ["\0.jpg", "\ud800.jpg", "x" * 300 + ".jpg", "/".join(["y" * 200] * 30)])
def test_a_name_that_no_file_can_have_costs_its_image(coco_tree: Callable[..., Any], name: str) -> None:
    tree = coco_tree()
    tree.content["images"].insert(0, {"id": 1, "file_name": name})
    split = tree.load()
    assert [fault.kind for fault in split.faults] == ["missing-picture"]
    assert len(split.records) == 3

"""CrowdHuman's files: persons, regions to be ignored, and what may be wrong with them."""

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


def box(fbox: Any, tag: str = "person", **extra: Any) -> dict[str, Any]:
    return {"fbox": fbox, "vbox": fbox, "hbox": [0, 0, 1, 1], "tag": tag, "extra": extra, "head_attr": {}}


@pytest.fixture
def tree(tmp_path: Path, picture: Callable[..., Path]) -> Callable[..., Path]:
    def make(*lines: Any, split: str = "val", folder: str = "Images") -> Path:
        for i, line in enumerate(lines):
            if isinstance(line, dict):
                picture(tmp_path / folder / f"{line['ID']}.jpg", seed=i)
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        (tmp_path / f"annotation_{split}.odgt").write_text(text + "\n")
        return tmp_path

    return make


@pytest.mark.parametrize("folder", ["Images", "CrowdHuman_val/Images", "val"])
def test_persons_and_regions(tree: Callable[..., Path], folder: str) -> None:
    people = [box([5, 6, 20, 30]), box([-10, 0, 30, 20]), box([40, 5, 9, 9], "mask"), box([1, 1, 9, 9], ignore=1)]
    root = tree({"ID": "273271,c9db000d", "gtboxes": people}, {"ID": "b", "gtboxes": []}, folder=folder)
    assert available_splits(root) == ("val",)
    split = load_split(root, "val")
    assert split.categories == (Category(1, "person"),)
    first, empty = split.records
    assert first.image_id == "273271,c9db000d"
    np.testing.assert_array_equal(first.boxes_xyxy[:2], [[5, 6, 25, 36], [0, 0, 20, 20]])  # cut at the picture
    np.testing.assert_array_equal(first.crowd, [False, False, True, True])
    np.testing.assert_array_equal(first.targets, [True, True, False, False])
    assert len(empty.labels) == 0


def test_a_file_may_be_given_by_name(tree: Callable[..., Path]) -> None:
    root = tree({"ID": "a", "gtboxes": [box([5, 6, 20, 30])]})
    assert available_splits(root / "annotation_val.odgt") == ("val",)
    assert len(load_split(root / "annotation_val.odgt", "val").records) == 1


def test_ignore_zero_is_a_person(tree: Callable[..., Path]) -> None:
    split = load_split(tree({"ID": "a", "gtboxes": [box([1, 1, 9, 9], ignore=0, occ=1)]}), "val")
    assert split.records[0].targets.tolist() == [True]


def test_faults_are_named(tree: Callable[..., Path]) -> None:
    good = {"ID": "a", "gtboxes": [box([1, 1, 9, 9]), box([1, 1, 9]), box(None), {"tag": "person"}]}
    root = tree(good, "{broken", '{"ID": "x"}', good)
    split = load_split(root, "val")
    kinds = [fault.kind for fault in split.faults]
    assert kinds.count("unreadable-annotation") == 5
    assert kinds.count("duplicate-picture") == 1
    assert len(split.records) == 1
    with pytest.raises(BadInput, match="line 2"):
        load_split(root, "val", faulty="refuse")


def test_pictures_that_are_nowhere(tree: Callable[..., Path]) -> None:
    root = tree({"ID": "a", "gtboxes": []}, folder="Elsewhere")
    with pytest.raises(BadInput, match=r"a\.jpg"):
        load_split(root, "val")


@pytest.mark.parametrize("folder", ["Images", "CrowdHuman_val/Images"])
def test_an_id_with_slashes_is_an_image_in_a_subfolder(tree: Callable[..., Path], folder: str) -> None:
    root = tree({"ID": "day/one/a", "gtboxes": [box([5, 6, 20, 30])]}, {"ID": "b", "gtboxes": []}, folder=folder)
    split = load_split(root, "val")
    assert not split.faults
    assert [record.path.name for record in split.records] == ["a.jpg", "b.jpg"]
    assert [record.image_id for record in split.records] == ["day/one/a", "b"]


@pytest.mark.parametrize("id_", ["../outside", "/outside", "day/../../outside", "/etc/hostname"])
def test_an_id_does_not_leave_the_data_set(
    tree: Callable[..., Path], picture: Callable[..., Path], tmp_path: Path, id_: str
) -> None:
    picture(tmp_path.parent / "outside.jpg")
    line = json.dumps({"ID": id_, "gtboxes": []})
    split = load_split(tree({"ID": "a", "gtboxes": []}, line), "val")
    assert [(fault.kind, "expected the name of an image within" in fault.detail) for fault in split.faults] == [
        ("unreadable-annotation", True)
    ]
    assert [record.image_id for record in split.records] == ["a"]

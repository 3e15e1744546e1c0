"""Every fault, with what becomes of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.data.records import FAULT_KINDS, Split, summary

GOOD = [10, 5, 20, 30]


def kinds(split: Split) -> list[str]:
    return [fault.kind for fault in split.faults]


@pytest.mark.parametrize(
    ("bbox", "kind"),
    [
        ([10, 5, 0, 30], "zero-size"),
        ([10, 5, 20, 0.0], "zero-size"),
        ([10, 5, 1e-9, 4], "zero-size"),
        ([10, 5, -20, 30], "negative-size"),
        ([60, 5, 10, 10], "outside"),
        ([-10, 5, 10, 10], "outside"),
        ([10, 400, 10, 10], "outside"),
        ([float("nan"), 5, 20, 30], "not-finite"),
        ([None, 5, 20, 30], "not-finite"),
        ([10, 5, float("inf"), 30], "not-finite"),
        ([10, 5, 20], "unreadable-annotation"),
        (["a", 5, 20, 30], "unreadable-annotation"),
        ([10, 5, 10**400, 30], "unreadable-annotation"),
        (None, "unreadable-annotation"),
        ({"x": 1}, "unreadable-annotation"),
    ],
)
def test_a_box_that_cannot_be_used_is_dropped_alone(coco_tree: Callable[..., Any], bbox: Any, kind: str) -> None:
    split = coco_tree().add(100, bbox).add(100, GOOD).load()
    assert kinds(split) == [kind]
    assert split.faults[0].file == "0.jpg"
    assert "annotation 1" in split.faults[0].detail
    np.testing.assert_array_equal(split.records[0].boxes_xyxy, [[10, 5, 30, 35]])
    assert len(split.records) == 3


def test_a_box_partly_outside_is_clipped_and_counted(coco_tree: Callable[..., Any]) -> None:
    split = coco_tree().add(100, [-5, 30, 20, 30]).load()
    assert kinds(split) == ["clipped"]
    np.testing.assert_array_equal(split.records[0].boxes_xyxy, [[0, 30, 15, 40]])
    assert split.records[0].areas[0] == 150


def test_a_rounding_beyond_the_border_is_clipped_silently(coco_tree: Callable[..., Any]) -> None:
    split = coco_tree().add(100, [-0.4, 0, 61.2, 40.5]).load()
    assert split.faults == ()
    np.testing.assert_array_equal(split.records[0].boxes_xyxy, [[0, 0, 60, 40]])


@pytest.mark.parametrize("category", [8, "7", None, 7.5, True])
def test_unknown_category(coco_tree: Callable[..., Any], category: Any) -> None:
    assert kinds(coco_tree().add(100, GOOD, category).load()) == ["unknown-category"]


def test_duplicates(coco_tree: Callable[..., Any]) -> None:
    tree = coco_tree().add(100, GOOD, id=5).add(101, GOOD, id=5).add(100, GOOD, id=6)
    tree.content["images"] += [{"id": 100, "file_name": "2.jpg"}, {"id": 200, "file_name": "1.jpg"}]
    split = tree.load()
    assert sorted(kinds(split)) == ["duplicate-annotation", "duplicate-file", "duplicate-picture"]
    assert [record.image_id for record in split.records] == [100, 101, 102]
    assert [len(record.labels) for record in split.records] == [2, 0, 0]


def test_pictures_that_cannot_be_used(coco_tree: Callable[..., Any]) -> None:
    tree = coco_tree(pictures=6)
    folder: Path = tree.root / tree.split
    (folder / "0.jpg").unlink()
    (folder / "1.jpg").write_bytes(b"")
    (folder / "2.jpg").write_bytes((folder / "3.jpg").read_bytes()[:-700])
    (folder / "3.jpg").write_bytes(b"no picture at all")
    tree.content["images"][4]["width"] = 61
    split = tree.load()
    assert {fault.file: fault.kind for fault in split.faults} == {
        "0.jpg": "missing-picture",
        "1.jpg": "broken-picture",
        "2.jpg": "broken-picture",
        "3.jpg": "broken-picture",
        "4.jpg": "size-mismatch",
    }
    assert "annotated 61x40, the image has 60x40" in split.faults[-1].detail
    assert [record.image_id for record in split.records] == [105]


def test_entries_without_the_necessary(coco_tree: Callable[..., Any]) -> None:
    tree = coco_tree().add(999, GOOD).add(None, GOOD)
    tree.content["annotations"].append("text")
    tree.content["images"] += [{"id": 7}, {"file_name": "x.jpg"}, {"id": [1], "file_name": "x.jpg"}, 3]
    counts = kinds(tree.load())
    assert counts.count("unknown-picture") == 1
    assert counts.count("unreadable-annotation") == 6


def test_refusing_lists_counts_and_file_names(coco_tree: Callable[..., Any]) -> None:
    tree = coco_tree(pictures=12)
    for image_id in range(100, 112):
        tree.add(image_id, [1, 1, 0, 5])
    tree.add(100, [70, 1, 5, 5])
    with pytest.raises(BadInput) as caught:
        tree.load(faulty="refuse")
    message = str(caught.value)
    assert "13 faults" in message
    assert "zero-size: 12" in message
    assert "outside: 1" in message
    assert "9.jpg" in message
    assert "10.jpg" not in message
    assert "and 2 more" in message


def test_a_clean_split_is_not_refused(coco_tree: Callable[..., Any]) -> None:
    assert len(coco_tree().add(100, GOOD).load(faulty="refuse", decode=True).records) == 3


def test_no_picture_left(coco_tree: Callable[..., Any]) -> None:
    tree = coco_tree(pictures=1)
    (tree.root / tree.split / "0.jpg").write_bytes(b"")
    with pytest.raises(BadInput, match=r"no usable image\nbroken-picture: 1"):
        tree.load()


def test_every_kind_has_words(coco_tree: Callable[..., Any]) -> None:
    split = coco_tree().add(100, [1, 1, 0, 5]).add(101, [1, 1, 0, 5]).load()
    assert summary(split.faults, examples=1) == [
        f"zero-size: 2 ({FAULT_KINDS['zero-size']})",
        "  0.jpg: annotation 1: xyxy [1.0, 1.0, 1.0, 6.0] px in 60x40",
        "  ... and 1 more",
    ]
    assert summary([]) == []


def test_the_digest_follows_the_content_and_not_the_place(
    coco_tree: Callable[..., Any], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tree = coco_tree().add(100, GOOD)
    digest = tree.load().digest()
    tree.root = tmp_path_factory.mktemp("elsewhere") / "data"
    shutil.copytree(tmp_path, tree.root)
    assert tree.load().digest() == digest
    tree.content["annotations"][0]["bbox"] = [10, 5, 20, 30.5]
    assert tree.load().digest() != digest
    tree.content["annotations"][0]["bbox"] = GOOD
    tree.content["categories"] = [*tree.categories[:2], {"id": 1000004, "name": "bird"}]
    assert tree.load().digest() != digest


def test_splits_with_other_categories_do_not_mix(coco_tree: Callable[..., Any]) -> None:
    train, tree = coco_tree().load(), coco_tree(split="val")
    tree.content["categories"] = [{"id": 7, "name": "wolf"}, *[c for c in tree.categories if c["id"] != 7]]
    with pytest.raises(BadInput, match=r"only in train2017: 7 'dog'; only in val: 7 'wolf'"):
        train.require_same_categories(tree.load())


def test_arrays_are_read_only(coco_tree: Callable[..., Any]) -> None:
    record = coco_tree().add(100, GOOD).load().records[0]
    with pytest.raises(ValueError, match="read-only"):
        record.boxes_xyxy[0, 0] = 3

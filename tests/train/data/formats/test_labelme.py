from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.data.open import available_splits, load_split


def write(root: Path, name: str, *shapes: Any, **more: Any) -> None:
    content = {"shapes": list(shapes), "imagePath": f"{name}.jpg", "imageHeight": 40, "imageWidth": 60, **more}
    (root / f"{name}.json").write_text(json.dumps(content))


def shape(points: Any, label: Any = "cat", kind: str = "rectangle") -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind}


def test_the_box_of_a_circle_is_around_it(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path, "a", shape([[20, 20], [23, 24]], kind="circle"))
    assert load_split(tmp_path, "all").records[0].boxes_xyxy.tolist() == [[15, 15, 25, 25]]


def test_shapes_that_are_no_boxes_are_faults(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "a.jpg")
    write(
        tmp_path,
        "a",
        shape([[1, 1], [9, 9]]),
        shape([[5, 5]], kind="point"),
        shape([[5, 5], [9, "x"]]),
        shape("none"),
        "no shape",
        shape([[1, 1], [9, 9]], label=7),
        shape([[1, 1], [9, 1]], kind="line"),
    )
    split = load_split(tmp_path, "all")
    np.testing.assert_array_equal(split.records[0].boxes_xyxy, [[1, 1, 9, 9]])
    kinds = [fault.kind for fault in split.faults]
    assert kinds == ["unreadable-annotation"] * 4 + ["unknown-category", "zero-size"]


def test_files_that_are_none_and_images_without_one(tmp_path: Path, picture: Callable[..., Path]) -> None:
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    write(tmp_path, "a", shape([[1, 1], [9, 9]]))
    (tmp_path / "b.json").write_text('{"shapes": 1}')
    write(tmp_path, "d", shape([[1, 1], [9, 9]]))
    split = load_split(tmp_path, "all")
    assert [record.path.name for record in split.records] == ["a.jpg"]
    assert [(fault.kind, fault.file) for fault in split.faults] == [
        ("unreadable-annotation", "b.json"),
        ("missing-picture", "d.jpg"),
    ]
    assert [(note.kind, note.file) for note in split.notes] == [("not-annotated", "b.jpg"), ("not-annotated", "c.jpg")]


def test_labels_txt_gives_names_and_order(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path, "a", shape([[1, 1], [9, 9]]))
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nzebra\ncat\n")
    split = load_split(tmp_path, "all")
    assert split.names == {1: "zebra", 2: "cat"}
    assert split.records[0].labels.tolist() == [1]


def test_a_name_that_two_images_have_is_ambiguous(tmp_path: Path, picture: Callable[..., Path]) -> None:
    for name in ("x/a.jpg", "y/a.jpg", "x/b.jpg"):
        picture(tmp_path / "images" / name)
    (tmp_path / "json").mkdir()
    for name in "ab":
        write(tmp_path / "json", name, shape([[1, 1], [9, 9]]))
    split = load_split(tmp_path, "all")
    assert [record.image_id for record in split.records] == ["images/x/b.jpg"]
    assert [(fault.kind, fault.file) for fault in split.faults] == [("ambiguous-image", "a.jpg")]


def test_without_a_class_it_is_refused(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path, "a")
    assert available_splits(tmp_path) == ("all",)
    with pytest.raises(BadInput, match="the list of categories is empty"):
        load_split(tmp_path, "all")

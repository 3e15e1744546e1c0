from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.data.open import available_splits, load_split
from aweigh.train.data.records import Split

HEADER = "filename,xmin,ymin,xmax,ymax,class\n"


@pytest.fixture
def read(tmp_path: Path, picture: Callable[..., Path]) -> Callable[[str], Split]:
    def load(text: str) -> Split:
        for name in "ab":
            picture(tmp_path / f"{name}.jpg")
        (tmp_path / "boxes.csv").write_text(text)
        return load_split(tmp_path, "all")

    return load


def boxes(split: Split) -> dict[str, list[list[float]]]:
    return {record.path.name: record.boxes_xyxy.tolist() for record in split.records}


def test_a_row_without_a_box_is_an_image_without_objects(read: Callable[[str], Split]) -> None:
    split = read(HEADER + "a.jpg,1,2,9,8,cat\nb.jpg,,,,,\n\n")
    assert boxes(split) == {"a.jpg": [[1, 2, 9, 8]], "b.jpg": []}
    assert split.names == {1: "cat"}


def test_width_and_height_next_to_corners_are_the_size_of_the_image(read: Callable[[str], Split]) -> None:
    split = read("Image Path,X_Min,Y_Min,X_Max,Y_Max,Label,Width,Height\na.jpg,1,2,9,8,cat,60,40\n")
    assert boxes(split) == {"a.jpg": [[1, 2, 9, 8]]}
    with pytest.raises(BadInput, match="size-mismatch: 1"):
        read("filename,xmin,ymin,xmax,ymax,class,width,height\na.jpg,1,2,9,8,cat,61,40\n")


def test_width_and_height_without_the_other_corner_are_those_of_the_box(read: Callable[[str], Split]) -> None:
    assert boxes(read("filename,x,y,width,height,class\na.jpg,1,2,9,8,cat\n")) == {"a.jpg": [[1, 2, 10, 10]]}


def test_faulty_rows_are_listed(read: Callable[[str], Split]) -> None:
    split = read(HEADER + "a.jpg,1,2,9,8,cat\na.jpg,1,2,x,8,cat\na.jpg,1,2,9\nc.jpg,1,2,9,8,cat\na.jpg,1,2,9,8,\n")
    assert boxes(split) == {"a.jpg": [[1, 2, 9, 8]]}
    assert [(fault.kind, fault.file) for fault in split.faults] == [
        ("unreadable-annotation", "a.jpg"),
        ("unreadable-annotation", "a.jpg"),
        ("unknown-category", "a.jpg"),
        ("missing-picture", "c.jpg"),
    ]


def test_without_a_class_column_there_is_one_class(read: Callable[[str], Split]) -> None:
    assert read("image_id,bbox\na,'[1, 2, 3.5, 4]'\n".replace("'", '"')).names == {1: "object"}


def test_a_path_with_backslashes_and_one_of_another_machine(read: Callable[[str], Split]) -> None:
    split = read(HEADER + "C:\\x\\a.jpg,1,2,9,8,cat\n/home/x/b.jpg,1,2,9,8,cat\n")
    assert set(boxes(split)) == {"a.jpg", "b.jpg"}


def test_several_tables_of_one_name_are_splits_by_their_paths(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "a.jpg")
    for name in ("one", "two"):
        (tmp_path / f"{name}.csv").write_text(HEADER + f"a.jpg,1,2,9,8,{name}\n")
    (tmp_path / "names.csv").write_text("one,1\ntwo,2\n")
    assert available_splits(tmp_path) == ("one", "two")
    assert load_split(tmp_path, "one").names == load_split(tmp_path, "two").names == {1: "one", 2: "two"}


def test_rows_without_a_split_have_that_of_the_file(tmp_path: Path, picture: Callable[..., Path]) -> None:
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    rows = "a.jpg,1,2,9,8,cat,train\nb.jpg,1,2,9,8,cat,\nc.jpg,1,2,9,8,cat,val\n"
    (tmp_path / "boxes.csv").write_text(HEADER.strip() + ",split\n" + rows)
    assert available_splits(tmp_path) == ("train", "val", "all")
    files = {name: list(boxes(load_split(tmp_path, name))) for name in ("train", "val", "all")}
    assert files == {"train": ["a.jpg"], "val": ["c.jpg"], "all": ["b.jpg"]}


def test_an_image_that_may_be_two_files_is_ambiguous(tmp_path: Path, picture: Callable[..., Path]) -> None:
    for name in ("x/a.jpg", "y/a.jpg", "x/b.jpg"):
        picture(tmp_path / name)
    (tmp_path / "boxes.csv").write_text(HEADER + "a.jpg,1,2,9,8,cat\nb.jpg,1,2,9,8,cat\n")
    split = load_split(tmp_path, "all")
    assert [record.image_id for record in split.records] == ["x/b.jpg"]
    assert [fault.kind for fault in split.faults] == ["ambiguous-image"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("who,when\n1,2\n", "expected the columns of images and boxes, such as filename, .*; got who, when"),
        ("", "got an empty file"),
        (HEADER, "expected a row for each box, got none"),
    ],
)
def test_a_file_given_by_name_with_other_columns(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(BadInput, match=words):
        load_split(tmp_path / "a.csv", "train")

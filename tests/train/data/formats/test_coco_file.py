from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.data.open import available_splits, load_split


@pytest.fixture
def write(tmp_path: Path, picture: Callable[..., Path]) -> Callable[[str], Path]:
    def one(name: str) -> Path:
        picture(tmp_path / "images" / "a.jpg")
        content = {
            "images": [{"id": 1, "file_name": "a.jpg"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4]}],
            "categories": [{"id": 5, "name": "cat"}],
        }
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
        return file

    return one


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["export.json"], ("all",)),
        (["instances_default.json"], ("default",)),
        (["my_train.json", "my_valid.json"], ("train", "valid")),
        (["first.json", "second.json"], ("first", "second")),
        (["first.json", "a-train.json"], ("a-train", "first")),
        (["train_a.json", "train_b.json"], ("train_a", "train_b")),
    ],
)
def test_splits_are_named_by_the_files(
    names: list[str], splits: tuple[str, ...], write: Callable[[str], Path], tmp_path: Path
) -> None:
    for name in names:
        write(name)
    (tmp_path / "other.json").write_text('{"licence": "none"}')
    assert available_splits(tmp_path) == splits
    assert all(load_split(tmp_path, name).names == {5: "cat"} for name in splits)


def test_a_file_in_annotations_belongs_to_the_folder_above(write: Callable[[str], Path]) -> None:
    split = load_split(write("annotations/any.json"), "all")
    assert [record.path.parent.name for record in split.records] == ["images"]


def test_a_file_with_words_of_a_split_is_that_split(write: Callable[[str], Path]) -> None:
    assert load_split(write("labels_val.json"), "valid").name == "val"


def test_images_that_are_nowhere(write: Callable[[str], Path], tmp_path: Path) -> None:
    file = write("export.json")
    (tmp_path / "images" / "a.jpg").rename(tmp_path / "b.jpg")
    with pytest.raises(BadInput, match=r"none of its first images \(a\.jpg, \.\.\.\) found; looked in"):
        load_split(file, "all")

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.data.open import available_splits, load_split


@pytest.fixture
def tree(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """Two images in ``images``, one of them with a label file."""
    for i, name in enumerate("ab"):
        picture(tmp_path / "images" / f"{name}.jpg", seed=i)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    return tmp_path


def test_an_image_without_label_file_has_no_objects_and_a_note(tree: Path) -> None:
    split = load_split(tree, "all")
    assert split.names == {0: "cat", 1: "dog"}
    assert [record.labels.tolist() for record in split.records] == [[1], []]
    assert [(note.kind, note.file) for note in split.notes] == [("no-label-file", "b.jpg")]


def test_other_text_files_are_no_labels(tree: Path) -> None:
    (tree / "README.txt").write_text("1 file, 2 images\n")
    (tree / "notes.txt").write_text("")
    assert available_splits(tree) == ("all",)
    assert load_split(tree, "all").faults == ()


def test_a_list_may_name_an_image_that_is_not_there(tree: Path) -> None:
    (tree / "train.txt").write_text("images/a.jpg\nimages/gone.jpg\n")
    assert available_splits(tree) == ("train",)
    split = load_split(tree, "train")
    assert [record.image_id for record in split.records] == ["images/a.jpg"]
    assert [(fault.kind, fault.file) for fault in split.faults] == [("missing-picture", "gone.jpg")]


def test_a_class_beyond_the_list_is_a_fault(tree: Path) -> None:
    (tree / "classes.txt").write_text("cat\n")
    with pytest.raises(BadInput, match="unknown-category") as error:
        load_split(tree, "all", faulty="refuse")
    assert "a.txt line 1 has category 1" in str(error.value)


def test_a_class_number_that_is_none_is_refused(tree: Path) -> None:
    (tree / "classes.txt").unlink()
    (tree / "labels" / "a.txt").write_text("1000000000 0.5 0.5 0.5 0.5\n")
    with pytest.raises(BadInput, match="has class 1000000000, and no file has the names"):
        load_split(tree, "all")

"""Label files are where other tools put them, and what is missing on either side is reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split
from tests.support.cases import case

LINE = "0 0.5 0.5 0.4 0.4\n"


@pytest.fixture
def tree(tmp_path: Path, picture: Callable[..., Path]) -> Callable[..., Split]:
    """A data set of these images and text files."""

    def make(images: list[str], texts: dict[str, str], train: str = "images", **options: str) -> Split:
        for name in images:
            picture(tmp_path / name)
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        (tmp_path / "data.yaml").write_text(f"train: {train}\nnames: [cell]\n")
        return load_split(tmp_path, "train", **options)  # type: ignore[arg-type]

    return make


def boxes(split: Split) -> list[int]:
    return [len(record.labels) for record in split.records]


@pytest.mark.parametrize("name", ["beside-the-pictures", "upper-case-TXT"])
@pytest.mark.parametrize("part", ["train", "val"])
def test_the_samples_labels_are_read(tmp_path: Path, name: str, part: str) -> None:
    split = load_split(case("yolo-labels-silently-missing", tmp_path) / name, part)
    assert set(boxes(split)) == {1}
    assert not split.faults
    assert not split.notes


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a.jpg", "labels/a.TXT"),
        ("images/a.jpg", "Labels/a.txt"),
        ("Images/a.jpg", "LABELS/a.Txt"),
        ("images/a.JPG", "labels/a.txt"),
        ("images/IMG_1.JPG", "labels/img_1.txt"),
        ("images/a.b.jpg", "labels/a.b.txt"),
        ("images/day/a.jpg", "labels/day/a.txt"),
        ("images/day/a.jpg", "images/day/a.txt"),
        ("images/a.jpg", "images/a.TXT"),
    ],
)
def test_a_label_file_is_found(tree: Callable[..., Split], image: str, label: str) -> None:
    split = tree([image], {label: LINE}, train=image.split("/")[0])
    assert boxes(split) == [1]
    assert not split.faults
    assert not split.notes


def test_a_name_in_another_case_is_not_taken_from_the_image_it_fits(tree: Callable[..., Split]) -> None:
    split = tree(["images/a.jpg", "images/A.jpg"], {"labels/a.txt": LINE})
    assert {record.path.stem: len(record.labels) for record in split.records} == {"a": 1, "A": 0}
    assert [note.file for note in split.notes] == ["A.jpg"]


def test_what_is_missing_on_either_side_is_reported(tree: Callable[..., Split]) -> None:
    texts = {"labels/a.txt": LINE, "labels/c.txt": "", "labels/lost.txt": LINE, "labels/day/gone.TXT": LINE}
    notes = {"labels/classes.txt": "cell\n", "labels/readme.txt": "see the page of the data set\n"}
    split = tree(["images/a.jpg", "images/b.jpg", "images/c.jpg"], texts | notes)
    assert boxes(split) == [1, 0, 0]
    assert [(note.kind, note.file) for note in split.notes] == [("no-label-file", "b.jpg")]
    assert sorted((fault.kind, fault.file) for fault in split.faults) == [
        ("unknown-picture", "gone.TXT"),
        ("unknown-picture", "lost.txt"),
    ]


def test_images_without_label_files_are_no_fault_and_lost_labels_are(tree: Callable[..., Split]) -> None:
    assert boxes(tree(["images/a.jpg", "images/b.jpg"], {"labels/a.txt": LINE}, faulty="refuse")) == [1, 0]
    with pytest.raises(BadInput, match=r"lost\.txt"):
        tree([], {"labels/lost.txt": LINE}, faulty="refuse")


def test_labels_of_images_that_a_list_leaves_out_are_not_lost(tree: Callable[..., Split]) -> None:
    texts = {"labels/a.txt": LINE, "labels/b.txt": LINE, "train.txt": "images/a.jpg\n"}
    split = tree(["images/a.jpg", "images/b.jpg"], texts, train="train.txt")
    assert boxes(split) == [1]
    assert not split.faults


def test_a_label_file_that_cannot_be_read_is_a_fault(tree: Callable[..., Split], tmp_path: Path) -> None:
    (tmp_path / "labels" / "a.txt").mkdir(parents=True)
    split = tree(["images/a.jpg", "images/b.jpg"], {"labels/b.txt": LINE})
    assert [fault.kind for fault in split.faults] == ["unreadable-annotation"]

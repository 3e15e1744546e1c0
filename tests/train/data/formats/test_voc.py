from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category
from aweigh.train.data.open import available_splits, load_split
from aweigh.train.data.records import Split


def xml(*objects: tuple[str, str, str], size: str = "<width>60</width><height>40</height>") -> str:
    """An annotation with objects of (name, "xmin ymin xmax ymax", difficult)."""
    items = []
    for name, box, difficult in objects:
        corners = "".join(
            f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=False)
        )
        flag = f"<difficult>{difficult}</difficult>" if difficult else ""
        items.append(f"<object><name>{name}</name>{flag}<bndbox>{corners}</bndbox></object>")
    return f"<annotation><size>{size}<depth>3</depth></size>{''.join(items)}</annotation>"


@pytest.fixture
def voc_tree(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    annotations = {
        "a": xml(("dog", "5 6 20 30", "0"), ("dog", "1 1 60 40", "1")),
        "b": xml(("cat", "1.5 2 10 12", "")),
        "c": xml(size="<width>0</width><height>0</height>"),
    }
    for folder in ("Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    for i, (stem, text) in enumerate(annotations.items()):
        picture(tmp_path / "JPEGImages" / f"{stem}.{'png' if stem == 'b' else 'jpg'}", seed=i)
        (tmp_path / "Annotations" / f"{stem}.xml").write_text(text)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nc\n")
    (tmp_path / "ImageSets/Main/val.txt").write_text("b 1\n\n")
    (tmp_path / "ImageSets/Main/dog_train.txt").write_text("a 1\nc -1\n")
    return tmp_path


def faults_of(split: Split) -> list[tuple[str, str]]:
    return [(fault.kind, fault.file) for fault in split.faults]


def test_categories_are_the_same_for_every_split(voc_tree: Path) -> None:
    assert available_splits(voc_tree) == ("train", "val")
    train, val = load_split(voc_tree, "train"), load_split(voc_tree, "val")
    assert train.categories == val.categories == (Category(1, "cat"), Category(2, "dog"))
    train.require_same_categories(val)


def test_boxes_flags_and_negatives(voc_tree: Path) -> None:
    train, val = load_split(voc_tree, "train"), load_split(voc_tree, "val")
    assert [record.image_id for record in train.records] == ["a", "c"]
    first, negative = train.records
    np.testing.assert_array_equal(first.boxes_xyxy, [[5, 6, 20, 30], [1, 1, 60, 40]])
    np.testing.assert_array_equal(first.difficult, [False, True])
    np.testing.assert_array_equal(first.targets, [True, False])
    np.testing.assert_array_equal(first.areas, [15 * 24, 59 * 39])
    assert len(negative.labels) == 0
    np.testing.assert_array_equal(val.records[0].boxes_xyxy, np.float32([[1.5, 2, 10, 12]]))
    assert val.records[0].path.suffix == ".png"
    assert train.faults == val.faults == ()


def test_a_labels_file_fixes_names_and_order(voc_tree: Path) -> None:
    (voc_tree / "labels.txt").write_text("dog\nzebra\n")
    assert load_split(voc_tree, "train").names == {1: "dog", 2: "zebra"}
    assert faults_of(load_split(voc_tree, "val")) == [("unknown-category", "b.png")]


def test_the_tree_may_lie_one_folder_down(voc_tree: Path) -> None:
    (voc_tree / "VOC2012").mkdir()
    for name in ("JPEGImages", "Annotations", "ImageSets"):
        (voc_tree / name).rename(voc_tree / "VOC2012" / name)
    assert len(load_split(voc_tree, "train").records) == 2


def test_faults(voc_tree: Path, picture: Callable[..., Path]) -> None:
    picture(voc_tree / "JPEGImages/d.jpg")
    picture(voc_tree / "JPEGImages/e.jpg")
    (voc_tree / "Annotations/d.xml").write_text("<annotation><object>")
    (voc_tree / "Annotations/e.xml").write_text(
        xml(("dog", "1 2 x 4", ""), ("dog", "1 2 3", ""), ("dog", "nan 2 3 4", ""))
    )
    (voc_tree / "Annotations/g.xml").write_text(xml())
    (voc_tree / "ImageSets/Main/train.txt").write_text("a\nd\ne\nf\ng\na\n")
    assert sorted(faults_of(load_split(voc_tree, "train"))) == [
        ("duplicate-picture", "a"),
        ("missing-annotation", "f.xml"),
        ("missing-picture", "g.jpg"),
        ("not-finite", "e.jpg"),
        ("unreadable-annotation", "d.xml"),
        ("unreadable-annotation", "e.jpg"),
        ("unreadable-annotation", "e.jpg"),
    ]


def test_a_data_set_without_any_object_has_no_classes(voc_tree: Path) -> None:
    for path in (voc_tree / "Annotations").glob("*.xml"):
        path.write_text(xml())
    with pytest.raises(BadInput, match="list of categories is empty"):
        load_split(voc_tree, "train")

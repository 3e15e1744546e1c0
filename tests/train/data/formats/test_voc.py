from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category
from aweigh.train.data.open import available_splits, load_split
from aweigh.train.data.records import Split
from tests.support.cases import case


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


def test_the_sample_s_names_with_spaces(tmp_path: Path) -> None:
    split = load_split(case("voc-names-with-spaces", tmp_path), "train")
    assert not split.faults
    assert [record.image_id for record in split.records] == ["scan 1", "scan 2"]
    assert [record.boxes_xyxy.tolist() for record in split.records] == [[[10, 10, 60, 60]], [[20, 20, 80, 80]]]


@pytest.mark.parametrize("line", ["a b", " a b \r", "a b.jpg", "a b 1", "a b  -1", "a b.jpg 0"])
def test_a_name_with_spaces_in_every_kind_of_list(voc_tree: Path, picture: Callable[..., Path], line: str) -> None:
    picture(voc_tree / "JPEGImages" / "a b.jpg")
    (voc_tree / "Annotations" / "a b.XML").write_text(xml(("dog", "1 2 30 40", "")))
    (voc_tree / "ImageSets/Main/train.txt").write_text(f"{line}\na 1\n", newline="")
    split = load_split(voc_tree, "train")
    assert not split.faults
    assert [record.image_id for record in split.records] == ["a b", "a"]


def test_a_number_behind_a_space_may_be_the_name(voc_tree: Path, picture: Callable[..., Path]) -> None:
    picture(voc_tree / "JPEGImages" / "a 1.jpg")
    (voc_tree / "Annotations" / "a 1.xml").write_text(xml())
    assert [record.image_id for record in load_split(voc_tree, "train").records] == ["a", "c"]
    (voc_tree / "ImageSets/Main/train.txt").write_text("a 1\na\n")
    assert [record.image_id for record in load_split(voc_tree, "train").records] == ["a 1", "a"]


@pytest.mark.parametrize(
    ("filename", "taken"),
    [("a.png", "a.png"), ("A.PNG", "a.png"), ("C:\\data\\a.jpg", "a.jpg"), ("photos/a.jpg", "a.jpg"), ("b.jpg", None)],
)
def test_the_filename_decides_among_files_of_one_stem(
    voc_tree: Path, picture: Callable[..., Path], filename: str, taken: str | None
) -> None:
    picture(voc_tree / "JPEGImages" / "a.png")
    text = xml(("dog", "5 6 20 30", "")).replace("<size>", f"<filename>{filename}</filename><size>")
    (voc_tree / "Annotations" / "a.xml").write_text(text)
    split = load_split(voc_tree, "train")
    assert [record.path.name for record in split.records if record.image_id == "a"] == ([taken] if taken else [])
    assert faults_of(split) == ([] if taken else [("ambiguous-image", "a.jpg")])


def test_namespaces_and_cases_of_tags_do_not_hide_objects(voc_tree: Path) -> None:
    text = xml(("dog", "5 6 20 30", "")).replace("<annotation>", '<annotation xmlns="http://example.org/voc">')
    (voc_tree / "Annotations" / "a.xml").write_text(text.replace("object>", "Object>").replace("xmin>", "xMin>"))
    split = load_split(voc_tree, "train")
    assert not split.faults
    np.testing.assert_array_equal(split.records[0].boxes_xyxy, [[5, 6, 20, 30]])


@pytest.mark.parametrize("root", ["annotations", "html", "svg"])
def test_a_foreign_root_is_no_image_without_objects(voc_tree: Path, root: str) -> None:
    text = xml(("dog", "5 6 20 30", "")).replace("annotation>", f"{root}>")
    (voc_tree / "Annotations" / "a.xml").write_text(text)
    split = load_split(voc_tree, "train")
    assert faults_of(split) == [("unreadable-annotation", "a.xml")]
    assert "expected <annotation> at the root" in split.faults[0].detail

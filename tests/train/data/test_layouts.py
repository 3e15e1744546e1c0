"""Every layout that labelling tools write, made from the same dozen images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.data.open import available_splits, load_split
from aweigh.train.evaluation.metrics import ResultRow
from aweigh.train.evaluation.sets import METRIC_SETS
from tests.support.layouts import LAYOUTS, NAMES, Item, Layout, boxes_of, make_items


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    return make_items(tmp_path_factory.mktemp("items"))


@pytest.mark.parametrize("name", LAYOUTS)
def test_boxes_and_class_names_are_those_of_the_images(name: str, items: list[Item], tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    data = layout.write(tmp_path / "data", items)
    splits = [load_split(data, split) for split in available_splits(data)]
    assert len(splits) == (2 if layout.splits else 1)
    if layout.splits:
        for name, split in zip(("train", "val"), splits, strict=True):
            assert load_split(data, name).name == split.name
            assert set(boxes_of(split)) == {item.name for item in items if item.split == name}
        splits[0].require_same_categories(splits[1])
    found: dict[str, list[tuple[str, list[float]]]] = {}
    for split in splits:
        assert split.faults == ()
        assert sorted(category.name for category in split.categories) == sorted(NAMES)
        found |= boxes_of(split)
    assert set(found) == {item.name for item in items}
    for item in items:
        assert [name for name, _ in found[item.name]] == [box[0] for box in item.boxes]
        given = np.array([box[1:] for box in item.boxes]).reshape(-1, 4)
        read = np.array([box for _, box in found[item.name]]).reshape(-1, 4)
        np.testing.assert_allclose(read, given, atol=layout.tolerance_px, rtol=0)


def test_the_category_that_roboflow_adds_is_left_out_with_a_note(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["coco-roboflow"].write(tmp_path / "data", items)
    split = load_split(data, "train")
    assert split.names == {1: "disk", 2: "ring", 3: "square"}
    assert [(note.kind, note.detail) for note in split.notes] == [("root-category", "0 'shapes'")]


def test_a_root_category_with_an_object_in_any_split_stays(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["coco-roboflow"].write(tmp_path / "data", items)
    file = data / "valid" / "_annotations.coco.json"
    file.write_text(file.read_text().replace('"category_id": 1', '"category_id": 0', 1))
    for name in ("train", "val"):
        split = load_split(data, name)
        assert split.names == {0: "shapes", 1: "disk", 2: "ring", 3: "square"}
        assert split.notes == ()


def test_an_image_without_xml_is_left_out_with_a_note(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["voc-labelimg-flat"].write(tmp_path / "data", items)
    (data / "train_3.xml").unlink()
    split = load_split(data, "all")
    assert len(split.records) == 11
    assert [(note.kind, note.file) for note in split.notes] == [("not-annotated", "train_3.jpg")]


def test_images_of_one_name_in_two_splits_are_kept_apart(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["voc-labelimg-folders"].write(tmp_path / "data", items)
    for path in (data / "val").iterdir():
        path.rename(path.with_name(path.name.replace("val_0", "train_0")))
    train, val = load_split(data, "train"), load_split(data, "val")
    assert val.records[0].image_id == "val/train_0.jpg"
    expected = [[box[0] for box in item.boxes] for item in items if item.name in ("train_0.jpg", "val_0.jpg")]
    assert [[name for name, _ in boxes_of(split)["train_0.jpg"]] for split in (train, val)] == expected


def test_without_a_list_of_names_the_numbers_are_the_names(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["yolo-folders"].write(tmp_path / "data", items)
    (data / "classes.txt").unlink()
    splits = [load_split(data, name) for name in ("train", "val")]
    assert all(split.names == {0: "0", 1: "1", 2: "2"} for split in splits)
    assert all("no-class-names" in {note.kind for note in split.notes} for split in splits)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "the folder is empty"),
        ({"a.jpg": "", "b.jpg": ""}, "2 images; there are no annotations"),
        ({"notes.md": ""}, "1 .md files; there are no images"),
        ({"a.jpg": "", "a.json": '{"version": 1, "regions": []}'}, "a.json has the keys version, regions"),
        ({"a.jpg": "", "annotations.xml": "<annotations/>"}, "CVAT for images? export as COCO 1.0"),
        ({"a.jpg": "", "list.csv": "who,when\n"}, "list.csv has the columns who, when"),
        ({"a.jpg": "", "broken.json": "{"}, "broken.json cannot be read"),
    ],
)
def test_the_error_says_what_lies_there(files: dict[str, str], words: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match="no data set recognised") as error:
        available_splits(tmp_path)
    assert words in str(error.value)
    assert not files or "What is read: COCO: annotations/instances_SPLIT.json" in str(error.value)


def test_a_data_set_in_a_subfolder_is_named(items: list[Item], tmp_path: Path) -> None:
    LAYOUTS["coco-official"].write(tmp_path / "data", items)
    with pytest.raises(BadInput, match=r"a data set lies in .*data: give that folder with --data"):
        load_split(tmp_path, "train")


def test_a_json_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(BadInput, match="expected COCO JSON, an object with the lists images"):
        load_split(tmp_path / "a.json", "train")


def average_precision(items: list[Item], layout: Layout, folder: Path) -> float:
    """Of the same detections, the boxes moved by some pixels, on all images of a layout."""
    data = layout.write(folder, items)
    found = []
    for name in available_splits(data):
        split = load_split(data, name)
        ids = {category.name: category.id for category in split.categories}
        by_name = {record.path.name: record for record in split.records}
        rows: list[ResultRow] = []
        for item in items:
            rng = np.random.default_rng(len(item.boxes) * 100 + int(item.path.stem[-1]))
            for label, x1, y1, x2, y2 in item.boxes if item.name in by_name else ():
                x, y = rng.uniform(-4, 4, 2)
                box = [x1 + x, y1 + y, x2 - x1, y2 - y1]
                image_id = by_name[item.name].image_id
                rows.append({"image_id": image_id, "category_id": ids[label], "bbox": box, "score": rng.uniform()})
        found.append(METRIC_SETS["coco"].compute(split, rows)["AP"])
    return float(np.mean([value for value in found if value is not None]))


def test_ap_is_that_of_the_coco_json(items: list[Item], tmp_path: Path) -> None:
    # Whole pixels, which every layout can hold.
    whole = [replace(item, boxes=tuple((name, *map(round, box)) for name, *box in item.boxes)) for item in items]
    expected = {
        False: average_precision(whole, LAYOUTS["coco-one-folder"], tmp_path / "one"),
        True: average_precision(whole, LAYOUTS["coco-official"], tmp_path / "split"),
    }
    assert 0.2 < expected[False] < 0.8
    for name, layout in LAYOUTS.items():
        value = average_precision(whole, layout, tmp_path / name)
        assert value == pytest.approx(expected[layout.splits], abs=1e-3), name

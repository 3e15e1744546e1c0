"""Data sets of every layout, written in every format and read again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.train.data.division import Shares
from aweigh.train.data.open import available_splits, load_split
from aweigh.train.data.split_names import canonical
from aweigh.train.data.writing import convert as convert_module
from aweigh.train.data.writing.coco import to_bbox
from aweigh.train.data.writing.convert import TARGETS, Target, convert
from tests.support.layouts import LAYOUTS, Item, boxes_of, make_items


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    return make_items(tmp_path_factory.mktemp("items"))


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_boxes_names_and_splits_stay(name: str, to: Target, items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS[name].write(tmp_path / "data", items)
    conversion = convert(data, to, tmp_path / "out")
    before = {split: load_split(data, split) for split in available_splits(data)}
    after = [load_split(tmp_path / "out", split) for split in available_splits(tmp_path / "out")]
    assert conversion.images == {split: len(its.records) for split, its in before.items()}
    assert len(after) == len(before)
    for was in before.values():
        now = next(one for one in after if len(after) == 1 or canonical(one.name) == canonical(was.name))
        assert now.faults == ()
        # What was COCO stays as it was, Roboflow's root category too.
        assert [note.kind for note in now.notes] == (["root-category"] if to == "coco" and was.notes else [])
        assert [c.name for c in now.categories] == [c.name for c in was.categories]
        assert set(boxes_of(now)) == set(boxes_of(was))
        for image, boxes in boxes_of(was).items():
            again = boxes_of(now)[image]
            assert [label for label, _ in again] == [label for label, _ in boxes]
            np.testing.assert_allclose([box for _, box in again], [box for _, box in boxes], atol=1e-5, rtol=0)


@pytest.fixture
def full(items: list[Item], tmp_path: Path) -> Path:
    """COCO with all that it can hold: gaps between ids, crowds, outlines, areas, keys of its own."""
    data = LAYOUTS["coco-official-images"].write(tmp_path / "full", items)
    rng = np.random.default_rng(0)
    for file in (data / "annotations").iterdir():
        content = json.loads(file.read_text())
        content["info"], content["licenses"] = {"year": 2017}, [{"id": 3, "name": "none"}]
        content["categories"].reverse()
        for category in content["categories"]:
            category["id"] *= 7
        for image in content["images"]:
            image["id"] = 1000 - image["id"]
            image["coco_url"] = "here"
        for position, one in enumerate(content["annotations"]):
            one["id"] += 5000
            one["image_id"] = 1000 - one["image_id"]
            one["category_id"] *= 7
            shifts = rng.uniform(0, 1, 4).tolist()
            one["bbox"] = [round(value + shift, 3) for value, shift in zip(one["bbox"], shifts, strict=True)]
            one["bbox"][2:] = [one["bbox"][2] - 1, one["bbox"][3] - 1]
            one["area"] = one["bbox"][2] * one["bbox"][3] / 2
            one["segmentation"] = [[1.5, 2, 3, 4, 5, 6]]
            one["iscrowd"] = int(position == 0)
        rng.shuffle(content["annotations"])
        file.write_text(json.dumps(content))
    return data


def test_coco_to_coco_is_exact(full: Path, tmp_path: Path) -> None:
    conversion = convert(full, "coco", tmp_path / "out", strict=True)
    assert conversion.losses == {}
    for file in (full / "annotations").iterdir():
        assert json.loads((tmp_path / "out" / "annotations" / file.name).read_text()) == json.loads(file.read_text())
    for split in ("train2017", "val2017"):
        assert load_split(tmp_path / "out", split).digest() == load_split(full, split).digest()


@given(st.lists(st.floats(0, 1e4), min_size=4, max_size=4))
def test_corners_are_exact_after_a_way_through_width_and_height(values: list[float]) -> None:
    (x1, x2), (y1, y2) = sorted(values[:2]), sorted(values[2:])
    x, y, width, height = to_bbox((x1, y1, x2, y2))
    assert np.float32([x, y, x + width, y + height]).tolist() == np.float32([x1, y1, x2, y2]).tolist()


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_decimals_come_back_as_they_were(low: int, size: int) -> None:
    x, width = low / 100, size / 100
    assert to_bbox((x, x, x + width, x + width)) == (x, x, width, width)


@pytest.mark.parametrize("to", ["yolo", "voc"])
def test_what_is_lost_is_counted_and_refused_if_strict(
    to: Target, full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = sum(len(r.labels) for name in ("train", "val") for r in load_split(full, name).records)
    conversion = convert(full, to, tmp_path / "out")
    assert conversion.losses == {
        "ids of categories": 3,
        "ids of images": 12,
        "ids of annotations": objects,
        "outlines": objects,
        "areas that are not those of the boxes": objects,
        {"yolo": "crowds, left out", "voc": "crowds, written as difficult"}[to]: 2,
    }
    read = [load_split(tmp_path / "out", name) for name in ("train", "val")] if to == "yolo" else []
    assert sum(len(r.labels) for split in read for r in split.records) == (objects - 2 if to == "yolo" else 0)
    arguments = ["convert", "--data", str(full), "--to", to, "--out", str(tmp_path / "strict"), "--strict"]
    assert main(arguments) == 2
    assert f"cannot hold all of {full}: ids of categories (3), ids of images (12)" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "out"]


def test_difficult_objects(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["voc-lists"].write(tmp_path / "data", items)
    file = data / "Annotations" / "train_0.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1", 1))
    difficult = load_split(data, "train").records[0].difficult
    assert difficult.sum() == 1
    losses = {to: convert(data, to, tmp_path / to).losses for to in TARGETS}
    assert losses == {
        "coco": {"difficult objects, written as crowds": 1},
        "yolo": {"difficult objects, left out": 1},
        "voc": {},
    }
    first = {to: load_split(tmp_path / to, "train").records[0] for to in TARGETS}
    np.testing.assert_array_equal(first["voc"].difficult, difficult)
    np.testing.assert_array_equal(first["coco"].crowd, difficult)
    assert len(first["yolo"].labels) == len(difficult) - 1


def test_ids_that_a_data_set_chose_are_counted(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["yolo-yaml"].write(tmp_path / "data", items)
    assert convert(data, "voc", tmp_path / "same", strict=True).losses == {}
    names = "names: {0: disk, 1: ring, 2: square, 9: odd}"
    (data / "data.yaml").write_text(f"train: images/train\nval: images/val\n{names}\n")
    assert convert(data, "yolo", tmp_path / "out").losses == {"ids of categories": 1}
    assert convert(data, "voc", tmp_path / "voc").losses == {"ids of categories": 4}


def test_shares_become_splits(items: list[Item], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = LAYOUTS["voc-as-cloned"].write(tmp_path / "data", items)
    flags = ["--val-share", "0.25", "--test-share", "0.2", "--split-seed", "3", "--json"]
    assert main(["convert", "--data", str(data), "--to", "yolo", "--out", str(tmp_path / "out"), *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["images"] == {"train": 7, "val": 3, "test": 2}
    assert available_splits(tmp_path / "out") == ("train", "val", "test")
    other = convert(data, "coco", tmp_path / "other", shares=Shares(0.25, 0.2, 3))
    assert other.losses == {}
    for name in ("train", "val", "test"):
        first, second = (load_split(tmp_path / folder, name) for folder in ("out", "other"))
        assert boxes_of(first).keys() == boxes_of(second).keys()


def test_an_existing_folder_is_refused(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["coco-flat"].write(tmp_path / "data", items)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="exists and is not an empty folder"):
        convert(data, "yolo", tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    convert(data, "yolo", tmp_path / "empty")
    assert (tmp_path / "empty" / "data.yaml").is_file()


def test_nothing_is_left_of_a_conversion_that_failed(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = LAYOUTS["coco-flat"].write(tmp_path / "data", items)

    def interrupt(steps: Any, note: str, total: int) -> Any:
        next(iter(steps))
        raise KeyboardInterrupt

    monkeypatch.setattr(convert_module, "track", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert(data, "voc", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_faulty_annotations_are_left_out_and_counted(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["coco-flat"].write(tmp_path / "data", items)
    content = json.loads((data / "annotations.json").read_text())
    content["annotations"][0]["bbox"][2] = 0
    (data / "annotations.json").write_text(json.dumps(content))
    conversion = convert(data, "coco", tmp_path / "out")
    assert {name: [fault.kind for fault in its] for name, its in conversion.faults.items()} == {"all": ["zero-size"]}
    again = json.loads((tmp_path / "out" / "annotations" / "instances_all.json").read_text())
    assert again["annotations"] == content["annotations"][1:]
    with pytest.raises(BadInput, match="zero-size: 1"):
        convert(data, "coco", tmp_path / "strict", strict=True)


def test_images_of_one_name_get_names_of_their_own(items: list[Item], tmp_path: Path) -> None:
    renamed = [replace(item, split=split) for item in items[:2] for split in ("train", "val")]
    data = LAYOUTS["voc-labelimg-folders"].write(tmp_path / "data", renamed)
    convert(data, "voc", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "JPEGImages").iterdir())
    assert names == ["train_0.jpg", "train_0_2.jpg", "train_1.png", "train_1_2.png"]
    assert [len(load_split(tmp_path / "out", name).records) for name in ("train", "val")] == [2, 2]


@pytest.mark.parametrize(
    ("rename", "to", "words"),
    [
        (lambda text: text.replace('"disk"', '"ring"'), "voc", "2 classes are called 'ring'"),
        (lambda text: text.replace('"disk"', '" disk"'), "voc", "the class name ' disk' cannot be a line"),
        (lambda text: text.replace('"disk"', '"a\\nb"'), "voc", r"the class name 'a\nb' cannot be a line"),
    ],
)
def test_names_that_voc_cannot_hold(
    rename: Callable[[str], str], to: Target, words: str, items: list[Item], tmp_path: Path
) -> None:
    data = LAYOUTS["coco-flat"].write(tmp_path / "data", items)
    file = data / "annotations.json"
    file.write_text(rename(file.read_text()))
    with pytest.raises(BadInput) as error:
        convert(data, to, tmp_path / "out")
    assert words in str(error.value)
    convert(data, "yolo", tmp_path / "out")
    assert sorted(load_split(tmp_path / "out", "train").names.values()) == sorted(
        category["name"] for category in json.loads(file.read_text())["categories"]
    )


def test_splits_that_a_yaml_has_no_key_for(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["coco-flat"].write(tmp_path / "data", items)
    (data / "annotations.json").rename(data / "first.json")
    (data / "second.json").write_text((data / "first.json").read_text())
    with pytest.raises(BadInput, match=r"a data\.yaml has train, val and test, the data set has 'first' too"):
        convert(data, "yolo", tmp_path / "out")

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import prepare
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.loading.augment import Augment
from aweigh.train.data.loading.dataset import DetectionDataset, EvaluationDataset
from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split

SPEC = InputSpec((64, 96))


def test_an_item_depends_on_seed_epoch_and_picture_alone(shapes_train: Split) -> None:
    one, two = (DetectionDataset(shapes_train, SPEC, Augment(), seed=4) for _ in range(2))
    two[0, 3], two[5, 1]
    for key in ((0, 0), (0, 5), (1, 0), (7, 23)):
        assert np.array_equal(one[key].image_u8, two[key].image_u8)
        assert np.array_equal(one[key].boxes_xyxy, two[key].boxes_xyxy)
    assert not np.array_equal(one[0, 0].image_u8, one[1, 0].image_u8)
    other = DetectionDataset(shapes_train, SPEC, Augment(), seed=5)
    assert not np.array_equal(one[0, 0].image_u8, other[0, 0].image_u8)


def test_types_and_shapes(shapes_train: Split) -> None:
    dataset = DetectionDataset(shapes_train, SPEC, Augment())
    sample = dataset[0, 2]
    assert len(dataset) == 24
    assert (sample.image_u8.shape, sample.image_u8.dtype) == ((64, 96, 3), np.uint8)
    assert sample.boxes_xyxy.dtype == np.float32
    assert sample.boxes_xyxy.shape == (len(sample.labels), 4)
    assert sample.labels.dtype == np.int64
    assert sample.record_index == 2


def test_without_augmentation_it_is_prepare(shapes_train: Split) -> None:
    record = shapes_train.records[1]
    expected, where = prepare(read_image(record.path), SPEC)
    sample = DetectionDataset(shapes_train, SPEC)[0, 1]
    np.testing.assert_array_equal(sample.image_u8, expected)
    np.testing.assert_array_equal(sample.boxes_xyxy, where.map(record.boxes_xyxy))
    prepared = EvaluationDataset(shapes_train, SPEC)[1]
    np.testing.assert_array_equal(prepared.image_u8, expected)
    assert prepared.placement == where


@pytest.mark.parametrize("config", [None, Augment(scale=0, min_visible=0)])
def test_crowds_are_no_targets(coco_tree: Callable[..., Any], config: Augment | None) -> None:
    split = coco_tree().add(100, [1, 1, 50, 30], 90, iscrowd=1).add(100, [5, 5, 20, 20], 7).load()
    sample = DetectionDataset(split, SPEC, config)[0, 0]
    assert sample.labels.tolist() == [0]
    assert DetectionDataset(split, SPEC, config)[0, 1].boxes_xyxy.shape == (0, 4)


def odd_picture(path: Path, kind: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    if kind == "turned":
        exif = Image.Exif()
        exif[0x112] = 6  # stored lying, shown upright: 40x60 becomes 60x40
        Image.fromarray(rgb.transpose(1, 0, 2).copy()).save(path, exif=exif)
    elif kind == "16 bit":
        Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(rgb).convert({"grey": "L", "transparent": "RGBA"}[kind]).save(path)


@pytest.mark.parametrize(
    ("kind", "name"), [("turned", "0.jpg"), ("grey", "0.jpg"), ("16 bit", "0.png"), ("transparent", "0.png")]
)
def test_odd_pictures(coco_tree: Callable[..., Any], kind: str, name: str) -> None:
    tree = coco_tree().add(100, [10, 10, 20, 20])
    (tree.root / tree.split / "0.jpg").unlink()
    tree.content["images"][0]["file_name"] = name
    odd_picture(tree.root / tree.split / name, kind)
    split = tree.load()
    assert split.faults == ()
    sample = DetectionDataset(split, InputSpec((40, 60)))[0, 0]
    np.testing.assert_array_equal(sample.image_u8, read_image(split.records[0].path))
    assert sample.boxes_xyxy.tolist() == [[10, 10, 30, 30]]


def test_a_size_annotated_before_the_turn_is_told(coco_tree: Callable[..., Any]) -> None:
    tree = coco_tree().add(100, [10, 10, 20, 20])
    odd_picture(tree.root / tree.split / "0.jpg", "turned")
    tree.content["images"][0].update(width=40, height=60)
    (fault,) = tree.load().faults
    assert fault.kind == "exif-orientation"
    assert "EXIF" in fault.detail


@pytest.mark.parametrize("damage", ["gone", "empty", "cut off", "another size"])
def test_a_picture_that_changed_since_the_scan(
    coco_tree: Callable[..., Any], picture: Callable[..., Path], damage: str
) -> None:
    tree = coco_tree()
    split = tree.load()
    path = split.records[1].path
    dataset = DetectionDataset(split, SPEC, Augment())
    if damage == "gone":
        path.unlink()
    elif damage == "another size":
        picture(path, (41, 60))
    else:
        path.write_bytes(path.read_bytes()[: {"empty": 0, "cut off": 2000}[damage]])
    with pytest.raises(BadInput, match=r"1\.jpg"):
        dataset[3, 1]
    assert dataset[3, 0].record_index == 0


def test_a_negative_seed_is_refused(shapes_train: Split) -> None:
    with pytest.raises(BadInput, match="seed -1"):
        DetectionDataset(shapes_train, SPEC, seed=-1)


def test_a_split_may_be_reloaded_without_change(shapes_dir: Path, shapes_train: Split) -> None:
    assert load_split(shapes_dir, "train").digest() == shapes_train.digest()

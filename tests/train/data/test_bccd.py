"""The real photographs: 364 pictures of blood cells in VOC's format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.data.open import available_splits, load_split


def test_splits_classes_and_faults(bccd_dir: Path) -> None:
    assert available_splits(bccd_dir) == ("test", "train", "trainval", "val")
    splits = {name: load_split(bccd_dir, name, decode=name == "test") for name in ("train", "val", "test")}
    assert {name: len(split.records) for name, split in splits.items()} == {"train": 205, "val": 87, "test": 72}
    faults = [fault for split in splits.values() for fault in split.faults]
    assert sorted((fault.kind, fault.file) for fault in faults) == [
        ("zero-size", "BloodImage_00338.jpg"),
        ("zero-size", "BloodImage_00343.jpg"),
    ]
    assert len({split.digest() for split in splits.values()}) == 3
    for split in splits.values():
        assert split.names == {1: "Platelets", 2: "RBC", 3: "WBC"}
    records = [record for split in splits.values() for record in split.records]
    assert {record.size_hw for record in records} == {(480, 640)}
    boxes = np.concatenate([record.boxes_xyxy for record in records])
    assert len(boxes) == 4888 - 2
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert boxes.max() == 640


def test_refusing_names_the_picture(bccd_dir: Path) -> None:
    with pytest.raises(BadInput, match=r"zero-size: 1 .*\n  BloodImage_00343\.jpg"):
        load_split(bccd_dir, "train", faulty="refuse")

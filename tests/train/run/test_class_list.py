"""The line on the classes that a training begins with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aweigh.runtime.spec import Category
from aweigh.train.data.records import ImageRecord, Split
from aweigh.train.run.data import class_list


def split_of(names: list[str], labels: list[int], crowd: list[bool]) -> Split:
    count = len(labels)
    record = ImageRecord(
        1,
        Path("a.jpg"),
        (9, 9),
        np.zeros((count, 4), np.float32),
        np.array(labels, np.int64),
        np.array(crowd),
        np.zeros(count, bool),
        np.zeros(count),
    )
    return Split("train", tuple(Category(10 + i, name) for i, name in enumerate(names)), (record,))


def test_numbers_names_and_objects_to_train_on() -> None:
    split = split_of(["cat", "dog", "cow"], [0, 0, 1, 1], [False, False, False, True])
    assert class_list(split) == "classes (objects in train): 10 cat (2), 11 dog (1), 12 cow (0)"


def test_a_long_list_is_cut() -> None:
    split = split_of([f"c{i}" for i in range(23)], [22], [False])
    line = class_list(split)
    assert line.endswith("29 c19 (0), and 3 more")
    assert "c20" not in line

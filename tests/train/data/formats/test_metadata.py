from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split


@pytest.fixture
def read(tmp_path: Path, picture: Callable[..., Path]) -> Callable[..., Split]:
    def load(*lines: Any) -> Split:
        for name in "abc":
            picture(tmp_path / f"{name}.jpg")
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "metadata.jsonl").write_text("\n".join(texts))
        return load_split(tmp_path, "all")

    return load


def line(name: str, **objects: Any) -> dict[str, Any]:
    return {"file_name": f"{name}.jpg", "objects": objects}


def test_numbers_without_a_list_of_names_are_ids_and_names(read: Callable[..., Split]) -> None:
    split = read(line("a", bbox=[[1, 2, 3, 4], [5, 5, 9, 9]], categories=[7, 3]), line("b", bbox=[], categories=[]))
    assert split.names == {3: "3", 7: "7"}
    assert split.records[0].labels.tolist() == [1, 0]
    assert split.records[0].boxes_xyxy.tolist() == [[1, 2, 4, 6], [5, 5, 14, 14]]
    assert len(split.records[1].labels) == 0
    assert [note.kind for note in split.notes] == ["no-class-names"]


def test_objects_may_be_a_list(read: Callable[..., Split]) -> None:
    item = {"file_name": "a.jpg", "objects": [{"bbox": [1, 2, 3, 4], "label": "cat", "id": 5}]}
    split = read(item, {"file_name": "b.jpg"})
    assert split.names == {1: "cat"}
    assert [len(record.labels) for record in split.records] == [1, 0]


def test_faulty_lines_are_listed(read: Callable[..., Split]) -> None:
    split = read(
        line("a", bbox=[[1, 2, 3, 4], [1, 2, 3], "x", [1, 2, 3, 4]], category=["cat", "cat", "cat", 5.5]),
        "{",
        {"objects": {}},
        line("b", bbox=[[1, 2, 3, 4]], category=[]),
        {"file_name": "c.jpg", "objects": "none"},
        line("d", bbox=[[1, 2, 3, 4]], category=["cat"]),
    )
    assert len(split.records) == 1
    assert split.records[0].boxes_xyxy.tolist() == [[1, 2, 4, 6]]
    assert [fault.kind for fault in split.faults] == [
        "unreadable-annotation",
        "unreadable-annotation",
        "unknown-category",
        *["unreadable-annotation"] * 4,
        "missing-picture",
    ]

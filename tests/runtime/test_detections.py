from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.detections import Detections
from aweigh.runtime.errors import BadInput, CannotRun


@pytest.fixture
def found() -> Detections:
    return Detections(
        xyxy=np.array([[1, 2, 11, 22], [0.1, 0, 5, 5], [3, 3, 4, 4.5]], np.float32),
        conf=np.array([0.9, 0.6, 0.1], np.float32),
        cls=np.array([3, 17, 3], np.int64),
        names={17: "dog", 3: "car"},
        orig_shape=(40, 60),
        path="street.jpg",
        speed={"network": 3.5},
    )


def test_length_and_iteration(found: Detections) -> None:
    assert len(found) == 3
    assert [(len(one), one.conf[0]) for one in found] == [
        (1, np.float32(0.9)),
        (1, np.float32(0.6)),
        (1, np.float32(0.1)),
    ]


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        (0, [0]),
        (-1, [2]),
        (np.int64(1), [1]),
        (slice(1, None), [1, 2]),
        (slice(0, 0), []),
        ([2, 0], [2, 0]),
        ([], []),
        ([True, False, True], [0, 2]),
        (np.array([False, False, False]), []),
        (np.array([1, 1]), [1, 1]),
    ],
)
def test_indexing(found: Detections, rows: Any, kept: list[int]) -> None:
    part = found[rows]
    assert part.conf.tolist() == found.conf[kept].tolist()
    assert np.array_equal(part.xyxy, found.xyxy[kept].reshape(-1, 4))
    assert np.array_equal(part.cls, found.cls[kept])
    assert (part.names, part.path, part.orig_shape, part.speed) == (found.names, "street.jpg", (40, 60), found.speed)


@pytest.mark.parametrize("rows", [3, -4, [5]])
def test_rows_that_are_not_there(found: Detections, rows: Any) -> None:
    with pytest.raises(IndexError):
        found[rows]


def test_filter_by_class_and_score(found: Detections) -> None:
    assert len(found[(found.cls == 3) & (found.conf > 0.5)]) == 1


def test_shapes_must_agree(found: Detections) -> None:
    with pytest.raises(BadInput, match="expected xyxy"):
        Detections(found.xyxy, found.conf[:2], found.cls, found.names, (40, 60))


def test_to_dict_is_the_predict_entry(found: Detections) -> None:
    entry = found.to_dict()
    assert entry["file"] == "street.jpg"
    assert entry["image"] == {"width": 60, "height": 40}
    assert entry["detections"][1] == {"box": [0.1, 0.0, 5.0, 5.0], "score": 0.6, "class_id": 17, "label": "dog"}
    assert json.loads(found.to_json()) == entry
    for detection, box, score in zip(entry["detections"], found.xyxy, found.conf, strict=True):
        assert np.array_equal(np.array(detection["box"], np.float32), box)
        assert np.float32(detection["score"]) == score


def test_to_coco_has_widths_and_own_ids(found: Detections) -> None:
    entries = found.to_coco(42)
    assert [e["category_id"] for e in entries] == [3, 17, 3]
    assert entries[0] == {"image_id": 42, "category_id": 3, "bbox": [1, 2, 10, 20], "score": float(np.float32(0.9))}
    assert found.xyxy[0].tolist() == [1, 2, 11, 22]
    json.dumps(entries)


def test_summary(found: Detections) -> None:
    assert found.summary() == "2 car, 1 dog"
    assert found[[]].summary() == "nothing found"


def test_nothing_found_can_be_written(found: Detections) -> None:
    nothing = found[[]]
    assert nothing.to_dict()["detections"] == nothing.to_coco(1) == []


def test_plot_and_save(found: Detections, tmp_path: Path) -> None:
    image = np.full((40, 60, 3), 50, np.uint8)
    from_memory = found.from_picture(None, image, {})
    drawn = from_memory.plot()
    assert drawn.shape == image.shape
    assert (drawn != image).any()
    assert (image == 50).all()
    assert from_memory.save(tmp_path / "x.png") == tmp_path / "x.png"
    from_file = found.from_picture(str(from_memory[[]].save(tmp_path / "plain.png")), None, {})
    assert np.array_equal(from_file.plot(), drawn)


def test_plot_needs_the_right_picture(found: Detections) -> None:
    with pytest.raises(BadInput, match="picture of 5x4 pixels: the detections are of one of 60x40"):
        found.plot(np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(BadInput, match="give plot the picture"):
        found.from_picture(None, None, {}).plot()
    with pytest.raises(BadInput, match="no such file"):
        found.plot()


def test_save_refuses_unknown_formats(found: Detections, tmp_path: Path) -> None:
    picture = found.from_picture(None, np.zeros((40, 60, 3), np.uint8), {})
    with pytest.raises(BadInput, match="cannot write this format"):
        picture.save(tmp_path / "x.gif")


def test_to_supervision_without_the_package(found: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def blocked(name: str, *rest: Any, **more: Any) -> Any:
        if name == "supervision":
            raise ModuleNotFoundError(name=name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(CannotRun, match="pip install supervision"):
        found.to_supervision()


def test_to_supervision_hands_over_all_rows(found: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package itself needs OpenCV with windows and is not installed here; its constructor is stood in for."""
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
    handed = found.to_supervision()
    assert handed.xyxy is found.xyxy
    assert handed.confidence is found.conf
    assert handed.class_id is found.cls
    assert handed.data["class_name"].tolist() == ["car", "dog", "car"]

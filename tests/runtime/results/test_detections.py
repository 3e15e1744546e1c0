from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.results.detections import Detections
from aweigh.train.data.open import load_split


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


def test_a_notebook_shows_the_drawn_image(found: Detections) -> None:
    assert repr(found) == "<Detections in street.jpg: 2 car, 1 dog>"
    assert found._repr_png_() is None  # there is no such file
    held = replace(found, image=np.full((40, 60, 3), 90, np.uint8))
    shown = held._repr_png_()
    assert shown is not None
    np.testing.assert_array_equal(
        cv2.cvtColor(cv2.imdecode(np.frombuffer(shown, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), held.plot()
    )


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


@pytest.mark.parametrize(
    ("above", "rows", "entry"),
    [
        (None, [0, 1, 2], None),
        (0.5, [0, 1], 0.5),
        ({3: 0.05, 17: 0.7}, [0, 2], {"3": 0.05, "17": 0.7}),
        ({3: 0.95}, [1], {"3": 0.95}),
        ({3: 0.95, 4: 0.1}, [1], {"3": 0.95}),  # 4 was not detected
    ],
)
def test_drawn_and_counted_are_those_above_the_threshold(
    found: Detections, above: Any, rows: list[int], entry: Any
) -> None:
    image = np.full((400, 600, 3), 50, np.uint8)
    large = replace(found, xyxy=found.xyxy * 10, orig_shape=(400, 600), image=image)
    marked = replace(large, drawn_above=above)
    assert np.array_equal(marked.plot(), large[rows].plot())
    assert marked.summary() == large[rows].summary()
    assert marked.drawn().conf.tolist() == large.conf[rows].tolist()
    written = marked.to_dict()
    assert (written["drawn_above"], len(written["detections"])) == (entry, 3)  # the file keeps all
    back = Detections.from_json(marked.to_json(), found.names)
    assert back.summary() == marked.summary()
    assert back.to_dict() == written


def test_a_score_asked_for_is_what_is_drawn(found: Detections) -> None:
    marked = replace(found, drawn_above=0.7)
    assert marked.filter(conf=0.5).summary() == "1 car, 1 dog"
    assert marked.filter(classes=["dog"]).summary() == "nothing found"


def test_an_entry_of_before_draws_all(found: Detections) -> None:
    entry = found.to_dict()
    del entry["drawn_above"]
    assert Detections.from_dict(entry).drawn_above is None


@pytest.mark.parametrize("above", ["0.3", [0.3], {"car": 0.3}, {"3": None}, {"3": float("nan")}, True])
def test_thresholds_of_drawing_that_make_no_sense(found: Detections, above: Any) -> None:
    with pytest.raises(BadInput, match=r"street.jpg: drawn_above: expected a number"):
        Detections.from_dict({**found.to_dict(), "drawn_above": above})


def test_nothing_found_can_be_written(found: Detections) -> None:
    nothing = found[[]]
    assert nothing.to_dict()["detections"] == nothing.to_coco(1) == []


def test_plot_and_save(found: Detections, tmp_path: Path) -> None:
    image = np.full((40, 60, 3), 50, np.uint8)
    from_memory = found.from_source(None, image, {})
    drawn = from_memory.plot()
    assert drawn.shape == image.shape
    assert (drawn != image).any()
    assert (image == 50).all()
    assert from_memory.save(tmp_path / "x.png") == tmp_path / "x.png"
    from_file = found.from_source(str(from_memory[[]].save(tmp_path / "plain.png")), None, {})
    assert np.array_equal(from_file.plot(), drawn)


def test_plot_needs_the_right_picture(found: Detections) -> None:
    with pytest.raises(BadInput, match="image of 5x4 pixels: the detections are of one of 60x40"):
        found.plot(np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(BadInput, match="give plot the image"):
        found.from_source(None, None, {}).plot()
    with pytest.raises(BadInput, match="no such file"):
        found.plot()


def test_save_refuses_unknown_formats(found: Detections, tmp_path: Path) -> None:
    picture = found.from_source(None, np.zeros((40, 60, 3), np.uint8), {})
    with pytest.raises(BadInput, match="cannot write this format"):
        picture.save(tmp_path / "x.gif")


def test_to_supervision_with_the_package(found: Detections) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed: it brings av and scipy")
    handed = found.to_supervision()
    assert isinstance(handed, supervision.Detections)
    assert np.array_equal(handed.xyxy, found.xyxy)
    assert np.array_equal(handed.confidence, found.conf)
    assert np.array_equal(handed.class_id, found.cls)
    assert handed["class_name"].tolist() == ["car", "dog", "car"]
    assert len(handed[handed.confidence > 0.5]) == 2
    assert len(found[[]].to_supervision()) == 0


@pytest.mark.filterwarnings("default")  # of the packages that it brings
def test_to_fiftyone_with_the_package(found: Detections) -> None:
    fiftyone = pytest.importorskip("fiftyone", reason="fiftyone is not installed: it brings a database and a server")
    handed = found.to_fiftyone()
    assert isinstance(handed, fiftyone.Detections)
    assert [one.label for one in handed.detections] == ["car", "dog", "car"]
    assert [one.confidence for one in handed.detections] == found.conf.tolist()
    height, width = found.orig_shape
    boxes = np.array([one.bounding_box for one in handed.detections]) * [width, height, width, height]
    boxes[:, 2:] += boxes[:, :2]
    np.testing.assert_allclose(boxes, found.xyxy, atol=1e-5)
    assert found[[]].to_fiftyone().detections == []
    sample = fiftyone.Sample(filepath="street.jpg", found=handed)  # takes it as a field of labels
    assert sample["found"].detections[1].label == "dog"


def test_to_pandas_with_the_package(found: Detections) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = found.to_pandas()
    assert list(frame.columns) == ["xmin", "ymin", "xmax", "ymax", "confidence", "class", "name"]
    assert np.array_equal(frame[["xmin", "ymin", "xmax", "ymax"]].to_numpy(), found.xyxy)
    assert frame["confidence"].dtype == np.float32
    assert frame[frame["name"] == "car"]["class"].tolist() == [3, 3]
    assert len(found[[]].to_pandas()) == 0


def test_to_pandas_without_the_package(found: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(CannotRun, match="pip install pandas"):
        found.to_pandas()


def test_to_supervision_without_the_package(found: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(CannotRun, match="pip install supervision"):
        found.to_supervision()


def test_to_fiftyone_without_the_package(found: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(CannotRun, match="pip install fiftyone"):
        found.to_fiftyone()


@pytest.mark.parametrize(
    ("classes", "conf", "kept"),
    [
        (None, None, [0, 1, 2]),
        (["car"], None, [0, 2]),
        ([17], None, [1]),
        (["dog", 3], None, [0, 1, 2]),
        ([], None, []),
        (None, 0.5, [0, 1]),
        (None, np.float32(0.6), [0]),  # strictly above
        (("car",), 0.5, [0]),
    ],
)
def test_filter(found: Detections, classes: Any, conf: float | None, kept: list[int]) -> None:
    assert found.filter(classes=classes, conf=conf).conf.tolist() == found.conf[kept].tolist()


def test_a_name_of_two_ids_means_both(found: Detections) -> None:
    assert len(replace(found, names={17: "car", 3: "car"}).filter(["car"])) == 3


def test_filter_by_a_class_that_is_not_there(found: Detections) -> None:
    with pytest.raises(BadInput, match="class 'cat': the model knows"):
        found.filter(["cat"])
    with pytest.raises(BadInput, match=r"expected a list, for example \['car'\]"):
        found.filter("car")


def test_json_there_and_back(found: Detections) -> None:
    back = Detections.from_json(found.to_json(), found.names)
    for ours, theirs in zip((found.xyxy, found.conf, found.cls), (back.xyxy, back.conf, back.cls), strict=True):
        assert np.array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert (back.names, back.orig_shape, back.path) == (found.names, found.orig_shape, found.path)
    assert back.to_dict() == found.to_dict()
    assert back.to_yolo() == found.to_yolo()
    nothing = Detections.from_json(replace(found, path=None)[[]].to_json())
    assert (len(nothing), nothing.xyxy.shape, nothing.path) == (0, (0, 4), None)


def test_json_without_names_knows_what_was_found_alone(found: Detections) -> None:
    back = Detections.from_dict(found[[0]].to_dict())
    assert back.names == {3: "car"}
    assert len(back.filter(["dog"])) == 0  # of other classes nothing is known
    with pytest.raises(BadInput, match="give from_dict all names of the model"):
        back.to_yolo()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file": 3}, "file: expected a path or null, got 3"),
        ({"image": {"width": 0, "height": 4}}, "street.jpg: image: expected width and height"),
        ({"image": None}, "image: expected width"),
        ({"detections": {}}, "detections: expected a list"),
        ({"detections": [{}]}, "expected box, score, class_id and label"),
        ({"detections": [{"box": [1, 2, 3], "score": 1, "class_id": 1, "label": "a"}]}, "a box of 4 numbers"),
        ({"detections": [{"box": [1, 2, 3, "4"], "score": 1, "class_id": 1, "label": "a"}]}, "a box of 4 numbers"),
        ({"detections": [{"box": [1, 2, 3, 4], "score": float("nan"), "class_id": 1, "label": "a"}]}, "and a score"),
        (
            {"detections": [{"box": [1, 2, 3, 4], "score": 1, "class_id": 1.5, "label": "a"}]},
            "whole number as class_id",
        ),
        ({"detections": [{"box": [1, 2, 3, 4], "score": 1, "class_id": 3, "label": "cat"}]}, "class 3 is 'cat' there"),
    ],
)
def test_entries_of_another_form(found: Detections, change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Detections.from_dict({**found.to_dict(), **change}, found.names)


def test_from_json_of_no_json() -> None:
    with pytest.raises(BadInput, match="not JSON"):
        Detections.from_json("{")
    with pytest.raises(BadInput, match=r"expected an object with file, image and detections, got \[\]"):
        Detections.from_json("[]")


def test_yolo_lines(found: Detections, tmp_path: Path) -> None:
    lines = found.to_yolo().splitlines()
    assert lines[0] == "1 0.1 0.3 0.166666667 0.5"  # a car is the second in names; 1 2 11 22 in 60x40
    assert [line.split()[0] for line in lines] == ["1", "0", "1"]
    assert found.to_yolo(conf=True).splitlines()[0] == lines[0] + " 0.9"
    path = found.save_yolo(tmp_path / "labels" / "street.txt", conf=True)
    assert path.read_text() == found.to_yolo(conf=True)
    assert found[[]].save_yolo(tmp_path / "none.txt").read_text() == ""
    shares = np.array([line.split()[1:] for line in lines], np.float64)
    corners = np.concatenate((shares[:, :2] - shares[:, 2:] / 2, shares[:, :2] + shares[:, 2:] / 2), axis=1)
    np.testing.assert_allclose(corners * [60, 40, 60, 40], found.xyxy, rtol=1e-6, atol=1e-6)


def test_yolo_labels_are_read_by_our_own_loader(found: Detections, tmp_path: Path) -> None:
    """What is written as labels is a data set: classes, places and files come back."""
    images = tmp_path / "images" / "val"
    images.mkdir(parents=True)
    picture = found.from_source(None, np.zeros((40, 60, 3), np.uint8), {})
    picture[[]].save(images / "street.png")
    picture.save_yolo(tmp_path / "labels" / "val" / "street.txt")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/val\nval: images/val\nnames: [dog, car]\n")
    (record,) = load_split(str(tmp_path / "data.yaml"), "val").records
    assert record.labels.tolist() == [1, 0, 1]
    np.testing.assert_allclose(record.boxes_xyxy, found.xyxy, atol=1e-4)


@pytest.mark.parametrize("value", [1e308, -1e39, 3.5e38])
@pytest.mark.parametrize("place", ["box", "score"])
def test_numbers_beyond_float32_are_refused(found: Detections, value: float, place: str) -> None:
    entry = found.to_dict()
    row = entry["detections"][0]
    row[place] = [0, 0, value, 1] if place == "box" else value
    with pytest.raises(BadInput, match="expected a box of 4 numbers and a score"):
        Detections.from_dict(entry)

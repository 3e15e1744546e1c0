from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from aweigh.runtime import BadInput, Detections, Detector
from aweigh.runtime.cli.main import main
from aweigh.runtime.results.files import coco_results, read_image_ids, read_predictions, write_coco_results


@pytest.fixture
def data(tmp_path: Path, make_picture: Callable[..., Any], write_picture: Callable[..., Path]) -> Path:
    """A COCO data set of red boxes, annotated with errors of 0 to 15 pixels so that AP is neither 0 nor 1."""
    root = tmp_path / "data"
    images, annotations = [], []
    for i in range(8):
        box = (10 + 3 * i, 12, 100 + 5 * i, 90)
        write_picture(root / "val" / f"{i}.png", make_picture(box_xyxy=box))
        images.append({"id": 7000 + i, "file_name": f"{i}.png", "width": 192, "height": 128})
        for category, right in ((3, box[2] - 2 * i), (17, (box[0] + box[2]) // 2 + i)):
            size = [right - box[0], box[3] - box[1]]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": 7000 + i, "category_id": category, "iscrowd": 0}
                | {"bbox": [box[0], box[1], *size], "area": size[0] * size[1]}
            )
    categories = [{"id": 3, "name": "whole"}, {"id": 17, "name": "left half"}]
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_val.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return root


def coco_ap(annotations: Path, results: Path) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats[:3]]


@pytest.mark.parametrize("flags", [[], ["--tta", "flip"], ["--slice", "96"], ["--agnostic"]])
def test_pycocotools_gives_the_ap_that_val_prints(
    make_model: Callable[..., Path],
    make_spec: Callable[..., Any],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
) -> None:
    # Labels in the data set's order, by id; the graph's label 0 is the left half.
    model = make_model()
    with Detector(model) as detector:
        order = tuple(sorted(detector.spec.categories, key=lambda c: c.id))
    model = make_model(categories=order)
    annotations = data / "annotations" / "instances_val.json"
    assert main(["val", "--model", str(model), "--data", str(data), "--json", *flags]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main(["predict", "--model", str(model), "--source", str(data / "val"), "--json", *flags]) == 0
    (tmp_path / "found.json").write_text(capsys.readouterr().out)
    found = read_predictions(tmp_path / "found.json")
    results = write_coco_results(tmp_path / "results.json", found, annotations)
    expected = coco_ap(annotations, results)
    assert [printed["AP"], printed["AP50"], printed["AP75"]] == expected
    assert printed["AP"] < 0.99
    assert printed.get("agnostic", False) == ("--agnostic" in flags)
    assert printed.get("tta") == ("flip" if "--tta" in flags else None)


def test_val_of_a_checkpoint_cannot_look_several_times(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["val", "--model", str(tmp_path / "x.pt"), "--data", str(data), "--tta", "flip"]) == 2
    assert "--slice and --tta are for exported files" in capsys.readouterr().err


def found_in(path: str | None) -> Detections:
    return Detections(
        np.array([[1, 2, 11.5, 22]], np.float32),
        np.array([0.9], np.float32),
        np.array([3], np.int64),
        {3: "car", 17: "dog"},
        (40, 60),
        path,
    )


def test_rows_carry_the_data_sets_image_ids(tmp_path: Path) -> None:
    found = [found_in("/data/val2017/a.jpg"), found_in("b.jpg"), found_in("other/b.jpg")]
    ids = {"a.jpg": 5, "val2017/a.jpg": 6, "b.jpg": "the second", "other/b.jpg": 8, "never.jpg": 9}
    path = write_coco_results(tmp_path / "deep" / "results.json", found, ids)
    rows = json.loads(path.read_text())
    assert [row["image_id"] for row in rows] == [6, "the second", 8]
    assert rows[0]["bbox"] == [1, 2, 10.5, 20]
    assert rows[0]["category_id"] == 3


def test_pictures_without_an_id_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no image id for b\.jpg, x/c\.jpg; known are names such as a\.jpg"):
        write_coco_results(tmp_path / "r.json", [found_in(p) for p in ("a.jpg", "b.jpg", "x/c.jpg")], {"a.jpg": 1})
    assert not (tmp_path / "r.json").exists()
    with pytest.raises(BadInput, match="and 3 more"):
        coco_results([found_in(f"{i}.jpg") for i in range(8)], {})
    with pytest.raises(BadInput, match="from memory has no file name"):
        coco_results([found_in(None)], {"a.jpg": 1})
    with pytest.raises(BadInput, match=r"a\.jpg and x/a\.jpg are both the image 1"):
        coco_results([found_in("a.jpg"), found_in("x/a.jpg")], {"a.jpg": 1})
    with pytest.raises(BadInput, match=r"a\.jpg stands there twice"):
        coco_results([found_in("a.jpg"), found_in("a.jpg")], {"a.jpg": 1})
    with pytest.raises(BadInput, match=r"no image id for ba\.jpg"):
        coco_results([found_in("ba.jpg")], {"a.jpg": 1})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "expected a COCO annotation file"),
        ('{"images": [{"id": 1}]}', "expected file_name and id of each"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}]}', "'a' stands twice"),
        ("{", "not JSON"),
    ],
)
def test_annotation_files_of_another_form(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "instances.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=words):
        read_image_ids(path)


def test_predictions_come_back(tmp_path: Path) -> None:
    found = [found_in("a.jpg"), found_in("b.jpg")[[]]]
    path = tmp_path / "detections.json"
    path.write_text(json.dumps([one.to_dict() for one in found]))
    back = read_predictions(path, found[0].names)
    assert [one.to_dict() for one in back] == [one.to_dict() for one in found]
    path.write_text('{"a": 1}')
    with pytest.raises(BadInput, match=r"detections\.json: expected a list of images"):
        read_predictions(path)
    path.write_text('[{"a": 1}]')
    with pytest.raises(BadInput, match=r"detections\.json: detections: expected an object with file"):
        read_predictions(path)
    with pytest.raises(BadInput, match=r"none\.json: no such file"):
        read_predictions(tmp_path / "none.json")

"""One label for an object, at run time; the halves of a red box overlap its whole by 0.5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime import BadInput, Detector, ViewOptions
from aweigh.runtime.cli.main import main
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.size import Size
from aweigh.runtime.spec import PostSpec
from aweigh.runtime.views.agnostic import Agnostic, suppress_across_classes
from aweigh.runtime.views.sliced import Sliced

LOW_IOU = {"iou_threshold": 0.4}


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    values = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        values[:, :4].astype(np.float32),
        values[:, 4].astype(np.float32),
        values[:, 5].astype(np.int64),
        {1: "king", 2: "queen"},
        (100, 100),
    )


def test_the_better_class_stays() -> None:
    king, queen, elsewhere = (0, 0, 10, 10, 0.8, 1), (0, 0, 10, 9, 0.75, 2), (50, 50, 60, 60, 0.1, 2)
    one = suppress_across_classes(found(king, queen, elsewhere), PostSpec("nms", "onnx"))
    assert one.summary() == "1 king, 1 queen"
    assert one.conf.tolist() == pytest.approx([0.8, 0.1])
    assert len(suppress_across_classes(found(), PostSpec("nms", "onnx"))) == 0


def test_the_threshold_and_its_convention_are_the_files() -> None:
    both = found((0, 0, 3, 3, 0.8, 1), (0, 0, 3, 2, 0.7, 2))  # IoU 6/9, with a pixel more 12/16
    for convention, threshold, left in (
        ("continuous", 0.7, 2),
        ("continuous", 0.6, 1),
        ("plus-one", 0.7, 1),
        ("plus-one", 0.8, 2),
    ):
        post = replace(PostSpec("nms", "onnx", iou_convention=convention), iou_threshold=threshold)  # type: ignore[arg-type]
        assert len(suppress_across_classes(both, post)) == left


def test_a_detector_of_one_label(make_model: Callable[..., Path], make_picture: Callable[..., Any]) -> None:
    with Detector(make_model(post=LOW_IOU)) as detector:
        agnostic = Agnostic(detector)
        assert detector(make_picture()).summary() == "1 whole, 1 left half"
        assert agnostic(make_picture()).summary() == "1 whole"
        assert [len(one) for one in agnostic([make_picture()] * 5)] == [1] * 5
        assert [len(one) for one in agnostic.stream([make_picture()] * 5)] == [1] * 5
        assert agnostic.batch_size == detector.batch_size
        assert set(agnostic(make_picture()).speed) == set(detector(make_picture()).speed)


@pytest.mark.parametrize(
    "views",
    [
        ViewOptions(agnostic=True),
        ViewOptions(agnostic=True, flip=True),
        ViewOptions(agnostic=True, tile=Size(96, 96)),
        ViewOptions(agnostic=True, tile=Size(96, 96), flip=True),
    ],
    ids=["plain", "flip", "tiles", "tiles and flip"],
)
def test_all_views_take_it(
    make_model: Callable[..., Path], make_picture: Callable[..., Any], views: ViewOptions
) -> None:
    with Detector(make_model(post=LOW_IOU)) as detector:
        with views.applied(detector) as finder:
            one = finder(make_picture())
        with replace(views, agnostic=False).applied(detector) as finder:
            several = finder(make_picture())
    assert one.summary() == "1 whole"
    assert len(several) >= 2
    assert views.changes


def test_views_of_an_agnostic_file_are_agnostic(make_model: Callable[..., Path]) -> None:
    """What the file's NMS does holds for the seams between tiles too; an argument decides otherwise."""
    with Detector(make_model(post={**LOW_IOU, "agnostic": True})) as detector:
        assert Sliced(detector).class_agnostic
        assert not Sliced(detector, class_agnostic=False).class_agnostic
        with ViewOptions(agnostic=True).applied(detector) as finder:
            assert finder is detector


def test_predict_takes_the_flag(
    make_model: Callable[..., Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(post=LOW_IOU)
    assert main(["predict", "--model", str(model), "--source", str(folder / "a.png"), "--agnostic"]) == 0
    assert capsys.readouterr().out == f"{folder / 'a.png'}: 1 whole\n"


def test_spec_of_a_file_that_does_not_say(make_spec: Callable[..., Any]) -> None:
    spec = make_spec()
    old = spec.to_dict()
    del old["post"]["agnostic"]
    assert type(spec).from_dict({**old, "schema": "1.1"}) == spec
    with pytest.raises(BadInput, match="agnostic"):
        type(spec).from_dict({**old, "post": {**old["post"], "agnostic": "yes"}})

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime import BadInput, CheckFailed, Detector
from aweigh.runtime.agreement.self_test import SelfTest
from aweigh.runtime.agreement.tolerances import TOLERANCES
from aweigh.runtime.cli.main import main

MakeModel = Callable[..., Path]
Golden = Callable[..., str]
BACKENDS = ("onnxruntime", "openvino")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "changes",
    [{}, {"batch": (3, 3)}, {"input": {"dynamic_size": True}}, {"post": {"kind": "nms", "nms_form": "matrix"}}],
)
def test_a_file_that_does_what_was_trained(
    make_model: MakeModel, golden: Golden, backend: str, changes: dict[str, Any]
) -> None:
    with Detector(make_model(golden=golden(), **changes), backend=backend) as detector:
        result = detector.self_test()
    assert result == SelfTest(
        pictures=2, detections=4, lost=0, new=0, relabelled=0, moved=0, allowed=0, max_box_error_px=0,
        max_score_error=0, precision="fp32",
    )  # fmt: skip
    assert result.passed


def test_a_file_without_golden_pictures_says_so(model: Path) -> None:
    with Detector(model) as detector:
        result = detector.self_test()
    assert (result.pictures, result.detections, result.passed) == (0, 0, True)
    assert str(result) == "no golden images in the file, nothing was tested"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("difference", "figures", "words"),
    [
        ({"moved_px": 0.5}, {"moved": 2, "max_box_error_px": 0.5}, r"2 moved by more than 0\.01 px.*box error 0\.5"),
        ({"score": 0.01}, {"max_score_error": pytest.approx(0.01, abs=1e-6)}, r"largest score error 1\.0e-02, at most"),
        ({"label": 1}, {"relabelled": 2}, "2 relabelled"),
        ({"lost": True}, {"new": 2}, "2 new"),
        ({"moved_px": 60.0}, {"lost": 2, "new": 2}, "2 lost, 2 new"),
    ],
)  # fmt: skip
def test_other_detections_than_the_trained_models(
    make_model: MakeModel, golden: Golden, backend: str, difference: dict[str, Any], figures: dict[str, Any], words: str
) -> None:
    path = make_model(golden=golden(**difference))
    with pytest.raises(CheckFailed, match=rf"red\.onnx: the self-test on load failed with .*2 golden images.*{words}"):
        Detector(path, backend=backend)
    with Detector(path, backend=backend, self_test=False) as detector:
        result = detector.self_test()
    assert not result.passed
    assert {name: getattr(result, name) for name in figures} == figures


def test_small_errors_are_those_of_another_processor(make_model: MakeModel, golden: Golden) -> None:
    with Detector(make_model(golden=golden(moved_px=0.005, score=5e-5))) as detector:
        result = detector.self_test()
    assert result.moved == 0
    assert 0.004 < result.max_box_error_px < 0.006
    assert 4e-5 < result.max_score_error < 6e-5


def test_each_precision_has_its_tolerances(make_model: MakeModel, golden: Golden) -> None:
    for precision, tolerance in TOLERANCES.items():
        moved_px, score = 0.9 * tolerance.moved_px, 0.9 * tolerance.score
        for factor, passed in ((1, True), (2, False)):
            text = golden(moved_px=factor * moved_px, score=factor * score)
            with Detector(make_model(golden=text, precision=precision), self_test=False) as detector:
                result = detector.self_test()
                assert (result.precision, result.passed) == (precision, passed)
                # This graph has nothing but FP32 in it, whatever its metadata say.
                assert detector.precision == "fp32"


def test_one_detection_in_twenty_may_fall_to_the_other_side() -> None:
    figures = {"pictures": 2, "new": 0, "relabelled": 0, "moved": 0, "max_box_error_px": 0.0, "max_score_error": 0.0}
    for lost, passed in ((0, True), (2, True), (3, False)):
        assert SelfTest(detections=40, lost=lost, allowed=2, precision="fp32", **figures).passed is passed


def test_broken_golden_pictures(make_model: MakeModel) -> None:
    with pytest.raises(BadInput, match="golden images: not as aweigh writes them"):
        Detector(make_model(golden='{"schema": "1.0", "pictures": [{}]}'))


@pytest.mark.usefixtures("only_runtime_verbs")
def test_on_the_command_line(
    make_model: MakeModel, golden: Golden, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_model(golden=golden(lost=True))
    predict = ["predict", "--source", str(folder), "--model", str(path), "--json"]
    for command in (predict, ["bench", "--iters", "1", "--model", str(path), "--json"]):
        assert main(command) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "the self-test on load failed" in captured.err
    assert main([*predict, "--no-self-test"]) == 0
    assert capsys.readouterr().err == ""

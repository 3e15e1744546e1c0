"""Golden pictures travel with an engine, in its sidecar; on stand-ins for TensorRT and CUDA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime import BadInput, CheckFailed, Detector

MakeEngine = Callable[..., Path]


def test_an_engine_tests_itself(
    tensorrt: Any, cudart: Any, make_engine: MakeEngine, golden: Callable[..., str]
) -> None:
    with Detector(make_engine(golden=golden()), device="cuda") as detector:
        result = detector.self_test()
        assert (result.pictures, result.detections, result.differing) == (2, 4, 0)
        detector.warm_up()
    path = make_engine(golden=golden(moved_px=1))
    with pytest.raises(CheckFailed, match=r"red\.engine: the self-test on load failed with TensorRT 11.*2 moved"):
        Detector(path, device="cuda")
    assert cudart.blocks == {}
    with Detector(path, device="cuda", self_test=False) as detector:
        assert not detector.self_test().passed


def test_an_engine_without_golden_pictures(tensorrt: Any, make_engine: MakeEngine) -> None:
    with Detector(make_engine(), device="cuda") as detector:
        assert detector.self_test().pictures == 0


def test_its_precision_is_that_of_the_build(tensorrt: Any, make_engine: MakeEngine) -> None:
    path = make_engine(precision="int8")
    for precision in (None, "int8"):
        with Detector(path, device="cuda", precision=precision, backend="tensorrt") as detector:
            assert (detector.precision, detector.backend.layers) == ("int8", {})
    with pytest.raises(
        BadInput, match="precision 'fp32' was asked for, the file holds int8, of which TensorRT computes"
    ):
        Detector(path, device="cuda", precision="fp32")

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aweigh.runtime.errors import CannotRun
from aweigh.runtime.files.fingerprint import Fingerprint, mismatches, require_fit

HERE = Fingerprint("11.1.0.106", "NVIDIA L4", "8.9", "13.0", "13.1", "linux-x86_64")


@pytest.mark.parametrize(
    ("built", "options", "subjects"),
    [
        ({}, {}, []),
        ({"tensorrt": "11.1.0.105"}, {}, ["TensorRT"]),
        ({"tensorrt": "11.0.0.114"}, {}, ["TensorRT"]),
        ({"tensorrt": "11.0.0.114"}, {"version_compatible": True}, []),
        ({"tensorrt": "11.4.0.106"}, {"version_compatible": True}, ["TensorRT"]),
        ({"tensorrt": "10.16.1.11"}, {"version_compatible": True}, ["TensorRT"]),
        ({"compute_capability": "9.0"}, {}, ["compute capability"]),
        ({"compute_capability": "9.0"}, {"hardware": "same-capability"}, ["compute capability"]),
        ({"compute_capability": "9.0"}, {"hardware": "ampere-plus"}, []),
        ({"gpu": "NVIDIA RTX 4090"}, {}, []),
        ({"platform": "linux-aarch64"}, {}, ["platform"]),
        ({"cuda": "14.0"}, {}, ["driver"]),
        ({"cuda": "13.5"}, {}, []),
        ({"cuda": "12.9"}, {}, []),
        ({"tensorrt": "10.13.3.9", "compute_capability": "10.0"}, {}, ["TensorRT", "compute capability"]),
    ],
)
def test_what_keeps_a_plan_from_running(built: dict[str, str], options: dict[str, Any], subjects: list[str]) -> None:
    assert [m.subject for m in mismatches(replace(HERE, **built), HERE, **options)] == subjects


def test_turing_is_older_than_ampere() -> None:
    turing = replace(HERE, compute_capability="7.5", gpu="NVIDIA T4")
    [found] = mismatches(HERE, turing, hardware="ampere-plus")
    assert (found.built, found.here) == ("8.0 or newer", "7.5 (NVIDIA T4)")


def test_both_sides_are_named_and_what_to_do() -> None:
    with pytest.raises(CannotRun) as caught:
        require_fit(
            "best.engine", replace(HERE, tensorrt="10.16.1.11", gpu="NVIDIA A10", compute_capability="8.6"), HERE
        )
    assert str(caught.value) == (
        "best.engine: built for another machine: TensorRT 10.16.1.11 when it was built, 11.1.0.106 here, compute "
        "capability 8.6 (NVIDIA A10) when it was built, 8.9 (NVIDIA L4) here; build it again on this machine from the "
        "ONNX file it came from: aweigh export --model FILE.onnx --format engine --out best.engine"
    )


def test_remarks() -> None:
    assert require_fit("x", HERE, HERE) == ()
    sister = replace(HERE, gpu="NVIDIA RTX 4090")
    [remark] = require_fit("x", sister, HERE)
    assert "built on NVIDIA RTX 4090, runs on NVIDIA L4" in remark
    assert require_fit("x", sister, HERE, hardware="same-capability") == ()

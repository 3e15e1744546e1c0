from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.files.audit import Audit, LayerCount
from aweigh.runtime.files.engine import read_sidecar, sidecar_path
from aweigh.runtime.files.fingerprint import Fingerprint, require_fit, rtx_mismatches
from aweigh.runtime.files.flavours import DEFAULT_GENERATIONS, GENERATIONS, parse_generations

BUILT = Fingerprint("1.7.1.116", "", "", "", "", "linux-x86_64")
ADA = Fingerprint("1.7.1.116", "NVIDIA L4", "8.9", "13.0", "13.1", "linux-x86_64")
TARGETS = parse_generations(",".join(DEFAULT_GENERATIONS))


def test_the_default_is_every_generation_but_turing() -> None:
    assert TARGETS == ("8.0", "8.6", "8.9", "12.0", "12.1")
    assert [name for name in GENERATIONS if name not in DEFAULT_GENERATIONS] == ["turing"]


@pytest.mark.parametrize("text", ["", "hopper", "ada,", "Ada", "ada, ampere"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="expected one or more of turing, ampere, ada, blackwell"):
        parse_generations(text)


@pytest.mark.parametrize(
    ("here", "targets", "subjects"),
    [
        ({}, TARGETS, []),
        ({"platform": "windows-amd64"}, TARGETS, []),
        ({"driver_cuda": "12.0"}, TARGETS, []),
        ({"tensorrt": "1.7.1.117"}, TARGETS, ["TensorRT for RTX"]),
        ({"tensorrt": "1.8.0.1"}, TARGETS, ["TensorRT for RTX"]),
        ({}, ("8.6",), ["compute capability"]),
        ({"compute_capability": "7.5"}, TARGETS, ["compute capability"]),
        ({"compute_capability": "9.0", "tensorrt": "1.6.0.1"}, TARGETS, ["TensorRT for RTX", "compute capability"]),
    ],
)
def test_what_keeps_a_plan_from_running(here: dict[str, str], targets: tuple[str, ...], subjects: list[str]) -> None:
    assert [m.subject for m in rtx_mismatches(BUILT, replace(ADA, **here), targets)] == subjects


def test_a_fitting_gpu_has_no_remark() -> None:
    assert require_fit("x", BUILT, ADA, flavour="rtx", targets=TARGETS) == ()


def test_hopper_is_sent_to_the_other_flavour() -> None:
    hopper = replace(ADA, gpu="NVIDIA H100", compute_capability="9.0")
    with pytest.raises(CannotRun) as caught:
        require_fit("best.engine", BUILT, hopper, flavour="rtx", targets=TARGETS)
    assert str(caught.value) == (
        "best.engine: built for another machine: compute capability 8.0, 8.6, 8.9, 12.0, 12.1 when it was built, 9.0 "
        "(NVIDIA H100) here; TensorRT for RTX has no kernels for this GPU, TensorRT has: build it again on this "
        "machine from the ONNX file it came from: aweigh export --model FILE.onnx --format engine --out best.engine "
        "--flavour tensorrt"
    )


def test_turing_is_told_which_flag_adds_it() -> None:
    turing = replace(ADA, gpu="NVIDIA T4", compute_capability="7.5")
    with pytest.raises(CannotRun, match=r"again on any machine .* --flavour rtx --out best\.engine --gpus turing$"):
        require_fit("best.engine", BUILT, turing, flavour="rtx", targets=TARGETS)


def test_older_sidecars_are_of_full_tensorrt(make_engine: Any) -> None:
    path: Path = make_engine()
    content = json.loads(sidecar_path(path).read_text())
    for name in ("flavour", "targets", "audit"):
        del content[name]
    sidecar_path(path).write_text(json.dumps({**content, "schema": "1.1"}))
    engine = read_sidecar(path)
    assert (engine.flavour, engine.targets, engine.audit) == ("tensorrt", (), None)


def test_audits_are_read_as_written(make_engine: Any) -> None:
    audit = Audit((LayerCount("int8", 41, 0, 60), LayerCount("fp32", 5, 32, 90)), ("a warning",), 0.1, 2.5, 2.0)
    path: Path = make_engine(sidecar={"flavour": "rtx", "targets": ("8.9",), "audit": audit})
    engine = read_sidecar(path)
    assert (engine.flavour, engine.targets, engine.audit) == ("rtx", ("8.9",), audit)
    assert audit.coarsest == "int8"
    assert audit.summary() == "41 convolutions in int8, 5 convolutions in fp32, 32 matrix products in fp32"
    assert Audit(()).summary() == "no convolution"
    assert Audit(()).coarsest is None

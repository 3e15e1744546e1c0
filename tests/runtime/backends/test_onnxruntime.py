"""What ONNX Runtime is asked for, and what it does; the rest of the back end is tested in ``test_backends.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from aweigh.runtime.backends.negotiate import computed_precision
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.backends.onnxruntime_session import CPU, CUDA, TENSORRT, TF32_VARIABLE, providers_of
from aweigh.runtime.backends.onnxruntime_trace import ExecutedNode, count_layers, read_profile, require_placement
from aweigh.runtime.backends.open import BACKENDS, backend_of, open_backend
from aweigh.runtime.cli import opening as flags
from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput, CannotRun, CheckFailed

MakeModel = Callable[..., Path]


@pytest.fixture
def executed(model: Path, tmp_path: Path) -> list[ExecutedNode]:
    """Nodes of a run."""
    with OnnxRuntimeBackend(model, profile_prefix=tmp_path / "profile") as backend:
        backend.infer(np.zeros((2, 64, 96, 3), np.uint8))
        return read_profile(backend.session.end_profiling())


def test_the_back_end_goes_by_the_file_alone(model: Path, tmp_path: Path) -> None:
    assert backend_of("a.onnx") == "onnxruntime"
    assert backend_of("a.engine") == backend_of("a.plan") == "tensorrt"
    for name in BACKENDS:
        assert backend_of("a.engine" if name == "tensorrt" else "a.onnx", name) == name
    with pytest.raises(BadInput, match="backend 'torch': expected auto, onnxruntime"):
        backend_of(model, "torch")
    for name in ("onnxruntime", "onnxruntime-tensorrt", "openvino"):
        with pytest.raises(BadInput, match=f"an engine, which the back end tensorrt runs; {name} takes the ONNX file"):
            backend_of("a.engine", name)
    with pytest.raises(
        BadInput, match=r"red\.onnx: the back end tensorrt runs engines; aweigh export --model .*engine"
    ):
        open_backend(model, backend="tensorrt")


def test_the_flags_know_what_the_code_knows() -> None:
    assert set(flags._BACKENDS) == {"auto", *BACKENDS}


def test_no_fallback_to_the_cpu_in_the_middle_of_a_run(model: Path) -> None:
    with OnnxRuntimeBackend(model) as backend:
        assert not backend.session._enable_fallback


def test_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert providers_of(Device("cpu"), tensorrt=False) == [(CPU, {})]
    cuda = (CUDA, {"device_id": "3", "use_tf32": "0"})
    assert providers_of(Device("cuda", 3), tensorrt=False) == [cuda]
    with pytest.raises(BadInput, match="device 'cpu': expected cuda or cuda:N"):
        providers_of(Device("cpu"), tensorrt=True)
    for value in (None, "1"):
        monkeypatch.delenv(TF32_VARIABLE, raising=False)
        if value:
            monkeypatch.setenv(TF32_VARIABLE, value)
        with pytest.raises(CannotRun, match=f"start the process with {TF32_VARIABLE}=0"):
            providers_of(Device("cuda"), tensorrt=True)
    monkeypatch.setenv(TF32_VARIABLE, "0")
    first, second = providers_of(Device("cuda", 3), tensorrt=True)
    assert first == (TENSORRT, {"device_id": "3", "trt_engine_cache_enable": "0"})
    assert second == cuda


def test_precision_stands_in_the_graph(make_model: MakeModel) -> None:
    with OnnxRuntimeBackend(make_model(), precision="fp32") as backend:
        assert (backend.precision, backend.layers) == ("fp32", {"fp32": 1})
    with pytest.raises(BadInput, match=r"precision 'int8' was asked for, the file holds fp32.*export it with --prec"):
        OnnxRuntimeBackend(make_model(), precision="int8")


@pytest.mark.parametrize("size", [{}, {"dynamic_size": True}])
def test_a_finer_precision_than_the_files_is_told_and_refused_where_it_was_named(
    make_model: MakeModel, size: dict[str, bool]
) -> None:
    path = make_model(precision="fp16", input=size)  # its one convolution is in float
    with OnnxRuntimeBackend(path) as backend:
        assert (backend.spec.precision, backend.precision, backend.layers) == ("fp16", "fp32", {"fp32": 1})
        assert backend.providers == (CPU,)
    with pytest.raises(CannotRun, match=r"expected fp16.*ONNX Runtime computes otherwise \(convolutions: 1 in fp32\)"):
        OnnxRuntimeBackend(path, precision="fp16")


def test_a_coarser_precision_is_never_taken() -> None:
    assert computed_precision("x", "fp32", None, {"fp32": 3}, "it") == "fp32"
    assert computed_precision("x", "int8", "int8", {"fp32": 3, "int8": 9}, "it") == "int8"
    assert computed_precision("x", "fp16", None, {}, "it") == "fp16"
    for wanted, got in (("fp32", "bf16"), ("fp16", "bf16"), ("fp32", "int8")):
        with pytest.raises(CannotRun, match=f"expected {wanted}.*9 in {got}, 1 in fp32.*coarser"):
            computed_precision("x", wanted, None, {"fp32": 1, got: 9}, "it")


def test_what_ran_where(executed: list[ExecutedNode]) -> None:
    assert count_layers(executed) == {"fp32": 1}
    assert {node.provider for node in executed} == {CPU}
    assert require_placement("x", executed, CPU) == ""
    with pytest.raises(CannotRun, match=f"x: {CUDA} left the work to others: 1 (Fused)?Conv on {CPU}"):
        require_placement("x", executed, CUDA)
    there = [replace(node, provider=CUDA) if "Conv" in node.op_type else node for node in executed]
    remark = require_placement("x", there, CUDA)
    assert remark.startswith(f"not on {CUDA}: ")
    assert f"4 ArgMax on {CPU}" in remark
    assert "Conv" not in remark


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_network_that_fails_is_told_in_our_words_when_it_is_opened_or_first_run(
    precision: str, make_model: MakeModel, tmp_path: Path
) -> None:
    """A file of lower precision is run once when it is opened. An index from an infinite value failed there."""
    file = onnx.load(make_model(precision=precision))
    file.graph.initializer.append(numpy_helper.from_array(np.array([10**6]), "far"))
    for node in file.graph.node:
        node.input[:] = ["images_there" if name == "images" else name for name in node.input]
    file.graph.node.insert(0, helper.make_node("Gather", ["images", "far"], ["images_there"], axis=0))
    path = tmp_path / "broken.onnx"
    onnx.save(file, path)

    def run() -> None:
        with OnnxRuntimeBackend(path) as backend:
            assert precision == "fp32"
            backend.infer(np.zeros((1, *backend.spec.input.size_hw, 3), np.uint8))

    with pytest.raises(CheckFailed, match=r"CPUExecutionProvider could not compute this network \(.*verify the file"):
        run()

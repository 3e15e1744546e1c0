"""The back end's own logic, on stand-ins for TensorRT and CUDA."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime import Detector
from aweigh.runtime.backends.cuda_memory import device_index
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.backends.open import open_backend, read_spec
from aweigh.runtime.backends.tensorrt.backend import HOST_CODE_VARIABLE, TensorRtBackend, graph_wanted
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.files.engine import BuildSettings, EngineTensor
from aweigh.runtime.files.fingerprint import Fingerprint
from aweigh.runtime.files.shape_ranges import ShapeProfile

MakeEngine = Callable[..., Path]
MATRIX = {"kind": "nms", "nms_form": "matrix"}


def agrees_with_onnxruntime(engine: TensorRtBackend, plan: Path, batch: Any) -> None:
    with OnnxRuntimeBackend(plan.with_suffix(".onnx")) as reference:
        expected, got = reference.infer(batch), engine.infer(batch)
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name].dtype == value.dtype
        np.testing.assert_array_equal(got[name], value)


def batch_of(make_picture: Callable[..., Any], *boxes: tuple[int, int, int, int]) -> Any:
    return np.stack([make_picture((64, 96), box) for box in boxes])


@pytest.fixture
def batch(make_picture: Callable[..., Any]) -> Any:
    return batch_of(make_picture, (10, 8, 50, 40), (0, 0, 30, 60))


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("data_dependent", [(), ("boxes", "scores")])
def test_outputs_are_those_of_the_onnx_file(
    tensorrt: Any, make_engine: MakeEngine, batch: Any, narrow: bool, data_dependent: tuple[str, ...]
) -> None:
    tensorrt.narrow, tensorrt.data_dependent = narrow, data_dependent
    path = make_engine()
    with TensorRtBackend(path) as engine:
        for images in (batch, batch[:1], batch):  # a new shape, and back again
            agrees_with_onnxruntime(engine, path, images)
        assert engine.providers == (
            "TensorRT 11.4.0.106",
            "Stand-in GPU",
            "no CUDA graph: the engine takes 1 to 4 images; export it with --batch N for one",
        )


def test_a_fixed_shape_is_replayed_as_a_cuda_graph(
    tensorrt: Any, cudart: Any, make_engine: MakeEngine, batch: Any
) -> None:
    path = make_engine(batch=(2, 2), post=MATRIX)
    with TensorRtBackend(path) as engine:
        assert engine.providers[2] == "CUDA graph"
        launches = cudart.launches
        agrees_with_onnxruntime(engine, path, batch)
        agrees_with_onnxruntime(engine, path, batch[::-1])
        assert cudart.launches == launches + 2
    assert (cudart.blocks, cudart.streams, cudart.graphs) == ({}, set(), {})


def test_what_cannot_be_captured_is_told_and_runs_all_the_same(
    tensorrt: Any, make_engine: MakeEngine, batch: Any
) -> None:
    tensorrt.capturable = False
    path = make_engine(batch=(2, 2), post=MATRIX)
    with TensorRtBackend(path) as engine:
        assert engine.providers[2] == (
            "no CUDA graph: the engine could not be executed: operation not permitted when stream is capturing"
        )
        agrees_with_onnxruntime(engine, path, batch)


def test_no_graph_with_outputs_of_unknown_size(tensorrt: Any, make_engine: MakeEngine, batch: Any) -> None:
    tensorrt.data_dependent = ("labels",)
    path = make_engine(batch=(2, 2), post=MATRIX)
    with TensorRtBackend(path) as engine:
        assert engine.providers[2] == "no CUDA graph: an output has a size that only the run determines"
        agrees_with_onnxruntime(engine, path, batch)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": (1, 4)}, "--batch N"),
        ({"batch": (2, 2), "input": {"dynamic_size": True}}, "many sizes"),
        ({"batch": (2, 2), "post": {"kind": "nms", "nms_form": "onnx"}}, "--nms matrix"),
        ({"batch": (2, 2), "post": MATRIX}, ""),
        ({"batch": (1, 1)}, ""),
    ],
)
def test_when_a_graph_is_wanted(make_spec: Callable[..., Any], changes: dict[str, Any], words: str) -> None:
    wanted, why_not = graph_wanted(make_spec(**changes))
    assert wanted is (words == "")
    assert words in why_not
    wanted, why_not = graph_wanted(make_spec(**changes), branches=True)
    assert not wanted
    assert (words or "--model CHECKPOINT --format engine") in why_not


def test_profiles_are_chosen_by_shape(tensorrt: Any, make_engine: MakeEngine, make_picture: Callable[..., Any]) -> None:
    wide = ShapeProfile((1, 32, 32, 3), (2, 64, 96, 3), (2, 64, 96, 3))
    tall = ShapeProfile((1, 32, 32, 3), (2, 96, 64, 3), (2, 96, 64, 3))
    path = make_engine((wide, tall), batch=(1, 2), input={"dynamic_size": True})
    with TensorRtBackend(path) as engine:
        for hw in ((64, 96), (96, 64), (32, 32)):
            agrees_with_onnxruntime(engine, path, make_picture(hw, (2, 3, 20, 30))[None])
        with pytest.raises(BadInput, match=r"1x128x96x3: this engine takes 1x32x32x3 to 2x64x96x3"):
            engine.infer(np.zeros((1, 128, 96, 3), np.uint8))
        agrees_with_onnxruntime(engine, path, make_picture((64, 96), (2, 3, 20, 30))[None])


def test_several_threads_have_lanes_of_their_own(
    tensorrt: Any, cudart: Any, make_engine: MakeEngine, make_picture: Callable[..., Any]
) -> None:
    path = make_engine()
    images = [batch_of(make_picture, (i, i, 40 + i, 30 + i)) for i in range(12)]
    with OnnxRuntimeBackend(path.with_suffix(".onnx")) as reference:
        expected = [reference.infer(image)["boxes"] for image in images]
    with TensorRtBackend(path, lanes=2) as engine, ThreadPoolExecutor(6) as pool:
        got = [outputs["boxes"] for outputs in pool.map(engine.infer, images)]
        memory = engine.memory()
        assert 1 <= (memory["lanes"] or 0) <= 2
        assert memory["scratch"] == 1000 * (memory["lanes"] or 0)
        assert memory["weights"] is None
        assert (memory["buffers"] or 0) >= images[0].nbytes
    np.testing.assert_array_equal(got, expected)
    assert (cudart.blocks, cudart.streams) == ({}, set())


def test_closing_waits_for_a_running_call(
    tensorrt: Any, cudart: Any, make_engine: MakeEngine, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, go_on = threading.Event(), threading.Event()
    engine = TensorRtBackend(make_engine())
    original = cudart.cudaStreamSynchronize

    def slow(stream: int) -> Any:
        running.set()
        assert go_on.wait(10)
        return original(stream)

    monkeypatch.setattr(cudart, "cudaStreamSynchronize", slow)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(engine.infer, batch)
        assert running.wait(10)
        engine.close()
        assert cudart.blocks
        go_on.set()
        assert result.result()["num_dets"].tolist() == [2, 2]
    assert cudart.blocks == {}
    engine.close()
    for call in (lambda: engine.infer(batch), engine.memory):
        with pytest.raises((BadInput, CannotRun), match="closed"):
            call()


def test_detector_by_the_ending(tensorrt: Any, make_engine: MakeEngine, make_picture: Callable[..., Any]) -> None:
    path = make_engine()
    with Detector(path, device="cuda") as detector:
        assert isinstance(detector.backend, TensorRtBackend)
        found = detector(make_picture((64, 96), (10, 8, 50, 40)))
    assert found.to_dict()["detections"][0]["label"] == "whole"
    assert read_spec(path) == read_spec(path.with_suffix(".onnx"))


def test_a_plan_for_another_machine(tensorrt: Any, make_engine: MakeEngine, fingerprint: Fingerprint) -> None:
    other = replace(fingerprint, tensorrt="10.13.3.9", compute_capability="8.9", gpu="Other GPU")
    with pytest.raises(CannotRun) as caught:
        TensorRtBackend(make_engine(sidecar={"built": other}))
    for words in ("10.13.3.9", "11.4.0.106", "8.9 (Other GPU)", "9.0 (Stand-in GPU)", "aweigh export --model"):
        assert words in str(caught.value)


def test_another_gpu_of_the_same_kind_is_remarked(
    tensorrt: Any, make_engine: MakeEngine, fingerprint: Fingerprint
) -> None:
    with TensorRtBackend(make_engine(sidecar={"built": replace(fingerprint, gpu="Sister")})) as engine:
        assert "built on Sister, runs on Stand-in GPU" in engine.providers[3]


def test_host_code_is_not_loaded_unasked(
    tensorrt: Any, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_engine(sidecar={"settings": BuildSettings(version_compatible=True)})
    monkeypatch.delenv(HOST_CODE_VARIABLE, raising=False)
    with pytest.raises(CannotRun, match=f"{HOST_CODE_VARIABLE}=1"):
        TensorRtBackend(path)
    monkeypatch.setenv(HOST_CODE_VARIABLE, "1")
    with TensorRtBackend(path):
        assert tensorrt.runtimes[-1].engine_host_code_allowed


def test_what_tensorrt_says_is_passed_on(tensorrt: Any, cudart: Any, make_engine: MakeEngine) -> None:
    tensorrt.readable = False
    with pytest.raises(CannotRun, match=r"does not take this plan.*made by another library"):
        TensorRtBackend(make_engine())
    tensorrt.readable, tensorrt.contexts_left = True, False
    with pytest.raises(CannotRun, match="no execution context"):
        TensorRtBackend(make_engine())
    assert cudart.streams == set()
    tensorrt.contexts_left, cudart.bytes_left = True, 100
    with pytest.raises(CannotRun, match=r"cudaMallocHost failed: cudaErrorMemoryAllocation.*are free"):
        TensorRtBackend(make_engine())
    assert (cudart.blocks, cudart.streams) == ({}, set())


def test_a_library_that_does_not_start(
    tensorrt: Any, cudart: Any, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(logger: Any) -> None:
        logger.log(1, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")  # as the genuine bindings do

    monkeypatch.setattr(tensorrt, "Runtime", fail)
    with pytest.raises(CannotRun, match=r"TensorRT could not start .*nullptr.*: CUDA initialization failure"):
        TensorRtBackend(make_engine())
    monkeypatch.setattr(cudart, "cudaGetDeviceCount", lambda: (type(cudart).cudaError_t(2), None))
    with pytest.raises(CannotRun, match=r"cudaGetDeviceCount failed: .*nvidia-smi"):
        TensorRtBackend(make_engine())


def test_an_allocator_without_memory(tensorrt: Any, cudart: Any, make_engine: MakeEngine, batch: Any) -> None:
    tensorrt.data_dependent = ("boxes",)
    with TensorRtBackend(make_engine()) as engine:
        engine.infer(batch[:1])
        cudart.bytes_left = 30
        with pytest.raises(CannotRun, match="cudaMalloc"):
            engine.infer(np.repeat(batch, 2, axis=0))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ((EngineTensor("images", "images", "uint8", (-1,)),), "num_dets, boxes, scores, labels of the contract are"),
        ((EngineTensor("images", "pixels", "uint8", (-1,)),), "images, num_dets"),
        (
            tuple(
                EngineTensor(name, plan, "float32", (-1,))
                for name, plan in (
                    ("images", "images"),
                    ("num_dets", "num_dets"),
                    ("boxes", "labels"),
                    ("scores", "scores"),
                    ("labels", "labels"),
                )
            ),
            "tensor 'boxes' of the plan is int64, expected float32",
        ),
    ],
)
def test_plans_that_break_their_contract(tensorrt: Any, make_engine: MakeEngine, tensors: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        TensorRtBackend(make_engine(sidecar={"tensors": tensors}))


def test_devices(tensorrt: Any, cudart: Any, make_engine: MakeEngine) -> None:
    assert (device_index("cuda"), device_index("cuda:3")) == (0, 3)
    path = make_engine()
    with pytest.raises(CannotRun, match="device 'cpu': a TensorRT engine runs on an NVIDIA GPU alone"):
        open_backend(path)
    with pytest.raises(BadInput, match="expected cuda or cuda:N"):
        open_backend(path, "gpu")
    with pytest.raises(CannotRun, match="device 'cuda:1': there is only cuda:0 to cuda:0"):
        open_backend(path, "cuda:1")
    cudart.devices = 0
    with pytest.raises(CannotRun, match="there is none on this machine"):
        open_backend(path, "cuda")
    with pytest.raises(BadInput, match="threads 0"):
        open_backend(path, "cuda", threads=0)


def test_tensorrt_before_strong_typing(tensorrt: Any, make_engine: MakeEngine) -> None:
    tensorrt.__version__ = "10.9.0.34"
    with pytest.raises(CannotRun, match=r"TensorRT 10\.9\.0\.34: expected 10\.13 or newer.*\.\[trt11\]"):
        TensorRtBackend(make_engine())


def test_without_the_libraries(tensorrt: Any, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_engine()
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(CannotRun, match=r"cuda\.bindings is missing or does not load.*\.\[trt11\].*\.\[trt10\]"):
        TensorRtBackend(path)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(CannotRun, match=r"TensorRT is not installed.*\.\[trt11\].*\.\[trt10\]"):
        TensorRtBackend(path)

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.errors import BadInput, CannotRun, CheckFailed
from aweigh.runtime.machine.facts import available_cores
from aweigh.runtime.spec import PostSpec

MakeModel = Callable[..., Path]


def test_outputs_follow_the_contract(model: Path, make_picture: Callable[..., Any]) -> None:
    batch = np.stack([make_picture((64, 96), (10, 8, 50, 40)), np.zeros((64, 96, 3), np.uint8)])
    with OnnxRuntimeBackend(model) as backend:
        outputs = backend.infer(batch)
        assert backend.providers == ("CPUExecutionProvider",)
        assert backend.threads == available_cores()
    assert {name: (str(value.dtype), value.shape) for name, value in outputs.items()} == {
        "num_dets": ("int64", (2,)),
        "boxes": ("float32", (2, 4, 4)),
        "scores": ("float32", (2, 4)),
        "labels": ("int64", (2, 4)),
    }
    assert outputs["num_dets"].tolist() == [2, 0]
    assert outputs["boxes"][0, :2].tolist() == [[10, 8, 30, 40], [10, 8, 50, 40]]
    assert outputs["labels"].tolist() == [[0, 1, -1, -1], [-1, -1, -1, -1]]


@pytest.mark.parametrize(
    ("kind", "form", "names"),
    [
        ("nms", "onnx", ("num_dets", "boxes", "scores", "labels")),
        ("vote", "matrix", ("num_dets", "boxes", "scores", "labels", "converged")),
        ("none", None, ("num_dets", "boxes", "scores", "labels")),
        ("raw", None, ("boxes", "scores")),
    ],
)
def test_output_names(kind: Any, form: Any, names: tuple[str, ...]) -> None:
    assert PostSpec(kind, form).output_names == names


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (np.zeros((1, 64, 96, 3), np.float32), "expected uint8"),
        (np.zeros((64, 96, 3), np.uint8), r"got uint8 \[64, 96, 3\]"),
        (np.zeros((1, 3, 64, 96), np.uint8), r"expected uint8 \[B, H, W, 3\]"),
        (np.zeros((5, 64, 96, 3), np.uint8), "batch of 5: this file takes 1 to 4; export it with --batch 5"),
        (np.zeros((0, 64, 96, 3), np.uint8), "batch of 0"),
        (np.zeros((1, 96, 64, 3), np.uint8), "images of 64x96 pixels: this file takes 96x64"),
    ],
)
def test_other_batches_are_refused(model: Path, batch: Any, words: str) -> None:
    with OnnxRuntimeBackend(model) as backend, pytest.raises(BadInput, match=words):
        backend.infer(batch)


def test_dynamic_sizes_are_multiples(make_model: MakeModel) -> None:
    with OnnxRuntimeBackend(make_model(input={"dynamic_size": True})) as backend:
        assert backend.infer(np.zeros((1, 32, 160, 3), np.uint8))["num_dets"].tolist() == [0]
        for hw in ((32, 100), (0, 32)):
            with pytest.raises(BadInput, match="positive multiples of 32"):
                backend.infer(np.zeros((1, *hw, 3), np.uint8))


def test_views_are_taken(model: Path, make_picture: Callable[..., Any]) -> None:
    mirrored = make_picture((64, 96), (10, 8, 50, 40))[None, :, ::-1]
    with OnnxRuntimeBackend(model) as backend:
        assert backend.infer(mirrored)["boxes"][0, 1].tolist() == [46, 8, 86, 40]


def test_nms_that_does_not_settle_is_an_error(make_model: MakeModel) -> None:
    batch = np.zeros((3, 64, 96, 3), np.uint8)
    with OnnxRuntimeBackend(make_model(post={"kind": "nms", "nms_form": "matrix"})) as backend:
        assert backend.infer(batch)["converged"].all()
        batch[1, 0, 0, 2] = 255
        with pytest.raises(CheckFailed, match=r"images \[1\] of the batch.*--nms onnx"):
            backend.infer(batch)


def test_a_closed_backend_says_so(model: Path) -> None:
    backend = OnnxRuntimeBackend(model)
    backend.close()
    backend.close()
    with pytest.raises(BadInput, match="closed"):
        backend.infer(np.zeros((1, 64, 96, 3), np.uint8))


def test_nothing_reaches_stderr(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with OnnxRuntimeBackend(model) as backend:
        backend.infer(np.zeros((1, 64, 96, 3), np.uint8))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.99])
def test_truncated_files(model: Path, share: float) -> None:
    data = model.read_bytes()
    model.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadInput, match=r"red\.onnx: .*(truncated|empty)"):
        OnnxRuntimeBackend(model)


def test_files_that_are_no_onnx(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    for content in (b"hello, this is no model at all\n" * 20, b"\x80\x04\x95" + bytes(200), b"PK\x03\x04" + bytes(99)):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"x\.onnx: no ONNX file"):
            OnnxRuntimeBackend(path)
    with pytest.raises(BadInput, match="no such model file"):
        OnnxRuntimeBackend(tmp_path / "none.onnx")
    with pytest.raises(BadInput, match="this is a folder"):
        OnnxRuntimeBackend(tmp_path)


def test_onnx_files_of_others(make_model: MakeModel) -> None:
    with pytest.raises(BadInput, match="not one of aweigh's"):
        OnnxRuntimeBackend(make_model(metadata=None))
    with pytest.raises(BadInput, match=r"red\.onnx: model spec: not JSON"):
        OnnxRuntimeBackend(make_model(metadata="{"))
    with pytest.raises(BadInput, match=r"schema '9\.0'"):
        OnnxRuntimeBackend(make_model(metadata='{"schema": "9.0"}'))


def test_graphs_that_break_their_contract(make_model: MakeModel) -> None:
    with pytest.raises(BadInput, match="batch of the graph's input is 2, its metadata says any"):
        OnnxRuntimeBackend(make_model(graph_batch=2))
    with pytest.raises(BadInput, match="width of the graph's input is 64, its metadata says 96"):
        OnnxRuntimeBackend(make_model(graph_hw=(64, 64)))
    with pytest.raises(BadInput, match="missing labels"):
        OnnxRuntimeBackend(make_model(without_output="labels"))


def test_a_graph_with_another_input(make_model: MakeModel) -> None:
    path = make_model()
    model = onnx.load(str(path))
    model.graph.input[0].name = "pixels"
    model.graph.node[0].input[0] = "pixels"
    onnx.save(model, str(path))
    with pytest.raises(BadInput, match="expected one input 'images' uint8"):
        OnnxRuntimeBackend(path)


def test_a_graph_that_onnxruntime_refuses(make_model: MakeModel) -> None:
    path = make_model()
    model = onnx.load(str(path))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, str(path))
    with pytest.raises((BadInput, CannotRun), match=r"red\.onnx: .*NoSuchOperator"):
        OnnxRuntimeBackend(path)


def test_a_file_from_the_future(make_model: MakeModel) -> None:
    path = make_model()
    model = onnx.load(str(path))
    model.ir_version = 99
    onnx.save(model, str(path))
    with pytest.raises(CannotRun, match="newer than the installed onnxruntime"):
        OnnxRuntimeBackend(path)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "CPU", "", "auto"])
def test_unknown_devices(model: Path, device: str) -> None:
    with pytest.raises(BadInput, match="expected cpu, cuda or cuda:N"):
        OnnxRuntimeBackend(model, device)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="onnxruntime-gpu is installed here"
)
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there(model: Path, device: str) -> None:
    with pytest.raises(CannotRun, match=rf"device '{device}'.*CPUExecutionProvider.*\.\[gpu\]"):
        OnnxRuntimeBackend(model, device)


def test_threads(model: Path) -> None:
    with OnnxRuntimeBackend(model, threads=1) as backend:
        assert backend.threads == 1
        assert backend.session.get_session_options().intra_op_num_threads == 1
    with pytest.raises(BadInput, match="threads 0: expected at least 1"):
        OnnxRuntimeBackend(model, threads=0)


def test_without_onnxruntime(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def blocked(name: str, *rest: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise ModuleNotFoundError(name=name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(CannotRun, match=r"\.\[cpu\].*\.\[gpu\]"):
        OnnxRuntimeBackend(model)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(model: Path, make_picture: Callable[..., Any]) -> None:
    # ONNX Runtime lists CUDA among its providers on machines without a GPU too; torch knows, and brings the libraries.
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device and onnxruntime-gpu")
    batch = make_picture((64, 96), (10, 8, 50, 40))[None]
    with OnnxRuntimeBackend(model, "cuda") as gpu, OnnxRuntimeBackend(model) as cpu:
        assert gpu.providers[0] == "CUDAExecutionProvider"
        for name, expected in cpu.infer(batch).items():
            np.testing.assert_allclose(gpu.infer(batch)[name], expected, rtol=1e-5)

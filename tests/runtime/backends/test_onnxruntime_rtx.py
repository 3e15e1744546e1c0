"""ONNX Runtime's provider for RTX on stand-ins: what is passed on, and that nothing runs elsewhere unseen."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from aweigh.runtime.backends.onnxruntime_rtx import RTX, profile_options
from aweigh.runtime.backends.open import open_backend
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.spec import ModelSpec

MakeModel = Callable[..., Path]


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package whose library cannot be loaded, and after ``gpus`` is set one that offers so many GPUs."""
    module = ModuleType("onnxruntime_ep_nv_tensorrt_rtx")
    state = SimpleNamespace(module=module, registered=[], gpus=0, added=[])
    module.get_library_path = lambda: "provider.so"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def register(name: str, path: str) -> None:
        state.registered.append((name, path))
        if not state.gpus:
            raise RuntimeError("libcuda.so.1: cannot open shared object file")

    def devices() -> list[Any]:
        return [SimpleNamespace(ep_name=RTX, number=i) for i in range(state.gpus if state.registered else 0)]

    def add(self: Any, chosen: list[Any], options: dict[str, str]) -> None:
        state.added.append((chosen[0].number, options))

    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", register)
    monkeypatch.setattr(onnxruntime, "get_ep_devices", devices)
    monkeypatch.setattr(onnxruntime.SessionOptions, "add_provider_for_devices", add)
    return state


def opened(path: Path, device: str = "cuda") -> Any:
    return open_backend(path, device, backend="onnxruntime-rtx")


def test_the_missing_package_is_named(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", None)
    with pytest.raises(CannotRun, match=r"needs the package .*pip install '\.\[onnxruntime-rtx\]'"):
        opened(make_model())
    with pytest.raises(BadInput, match="device 'cpu': expected cuda or cuda:N"):
        opened(make_model(), "cpu")


def test_a_driver_or_gpu_that_is_missing_is_named(make_model: MakeModel, provider: Any) -> None:
    with pytest.raises(CannotRun, match=r"does not load \(libcuda\.so\.1.*is there an RTX GPU and its driver"):
        opened(make_model())
    provider.gpus = 1
    with pytest.raises(CannotRun, match=r"device 'cuda:1': .* offers 1 GPUs on this machine"):
        opened(make_model(), "cuda:1")


def test_a_session_without_the_provider_is_refused(make_model: MakeModel, provider: Any) -> None:
    provider.gpus = 2
    with pytest.raises(CannotRun, match=rf"ONNX Runtime gave CPUExecutionProvider instead of {RTX}"):
        opened(make_model(), "cuda:1")
    assert provider.registered == [(RTX, "provider.so")]
    [(number, options)] = provider.added
    assert number == 1
    assert options["nv_profile_max_shapes"].startswith("images:4x")


def test_work_that_is_left_to_the_cpu_is_refused(
    make_model: MakeModel, provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.gpus = 1
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: [RTX, "CPUExecutionProvider"])
    with pytest.raises(CannotRun, match=rf"{RTX} left the work to others: 1 Conv on CPUExecutionProvider"):
        opened(make_model())


def test_shapes_of_files_of_many_sizes(spec: ModelSpec) -> None:
    size = replace(spec.input, size_hw=(64, 96), dynamic_size=True, resize="keep-ratio")
    options = profile_options(replace(spec, input=size, batch=(2, 3)))
    assert options["nv_profile_min_shapes"] == f"images:2x{size.pad_multiple}x{size.pad_multiple}x3"
    assert options["nv_profile_opt_shapes"] == options["nv_profile_max_shapes"] == "images:3x96x96x3"

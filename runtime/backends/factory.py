"""Which backend opens which file: the one place that knows."""

from __future__ import annotations

import os

from aweigh.runtime.backends.base import Backend
from aweigh.runtime.engine_file import is_engine, read_sidecar
from aweigh.runtime.onnx_file import read_onnx
from aweigh.runtime.spec import ModelSpec


def open_backend(path: str | os.PathLike[str], device: str = "cpu", threads: int | None = None) -> Backend:
    """Open a model file by the ending of its name: a TensorRT plan (``.engine``, ``.plan``), else ONNX.

    Args:
        path: a file written by aweigh export.
        device: exactly this one is used, or an error raised.
        threads: within the network on a CPU; calls that run at once on a TensorRT engine.

    Raises:
        BadInput: no such file, or none of ours.
        CannotRun: the device or the library is not to be had.
    """
    if is_engine(path):
        from aweigh.runtime.backends.tensorrt import TensorRtBackend

        return TensorRtBackend(path, device, threads)
    from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(path, device, threads)


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """The contract of a model file, without opening it. Raises BadInput where there is none."""
    return read_sidecar(path).spec if is_engine(path) else read_onnx(path).spec(path)

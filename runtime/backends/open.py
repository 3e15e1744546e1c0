"""Choose the back end that opens a file."""

from __future__ import annotations

import os

from aweigh.runtime.backends.base import Backend
from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.engine import is_engine, read_sidecar
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.spec import ModelSpec

BACKENDS = ("onnxruntime", "onnxruntime-tensorrt", "onnxruntime-rtx", "openvino", "tensorrt")


def open_backend(
    path: str | os.PathLike[str],
    device: str | Device = "cpu",
    threads: int | None = None,
    *,
    backend: str = "auto",
    precision: str | None = None,
    ort_options: str = "",
) -> Backend:
    """Open a model file.

    Args:
        path: a file written by aweigh export.
        device: exactly this one is used, or an error raised.
        threads: within the network on a CPU; calls that run at once on a TensorRT engine.
        backend: one of ``BACKENDS``, or ``auto``: ``tensorrt`` for a plan (``.engine``, ``.plan``), ``onnxruntime`` for
            any other file, whatever else is installed.
        precision: None for what the file says; see the back ends for what else they compute.
        ort_options: of ``onnxruntime``, as :class:`OrtOptions` parses them.

    Raises:
        BadInput: no such file, not a file of aweigh export, or not one for this back end; a precision that has to be in
            the file; options of another back end than ``onnxruntime``.
        CannotRun: the device, the library or the precision is not available.
    """
    name = backend_of(path, backend)
    if ort_options and name != "onnxruntime":
        raise BadInput(f"ONNX Runtime options {ort_options!r}: the back end is {name}; they are of onnxruntime")
    if name == "tensorrt":
        from aweigh.runtime.backends.tensorrt.backend import TensorRtBackend

        return TensorRtBackend(path, device, threads, precision=precision)
    if name == "openvino":
        from aweigh.runtime.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(path, device, threads, precision=precision)
    from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
    from aweigh.runtime.backends.onnxruntime_options import OrtOptions

    return OnnxRuntimeBackend(
        path,
        device,
        threads,
        precision=precision,
        tensorrt=name == "onnxruntime-tensorrt",
        rtx=name == "onnxruntime-rtx",
        options=OrtOptions.parse(ort_options),
    )


def backend_of(path: str | os.PathLike[str], backend: str = "auto") -> str:
    """The back end that a file is opened with. Raises BadInput for one that there is not, or not for such files."""
    if backend == "auto":
        return "tensorrt" if is_engine(path) else "onnxruntime"
    if backend not in BACKENDS:
        raise BadInput(f"backend {backend!r}: expected auto, {', '.join(BACKENDS)}")
    if is_engine(path) and backend != "tensorrt":
        raise BadInput(f"{path}: an engine, which the back end tensorrt runs; {backend} takes the ONNX file")
    if backend == "tensorrt" and not is_engine(path):
        raise BadInput(
            f"{path}: the back end tensorrt runs engines; aweigh export --model {path} --format engine builds one on "
            "the machine that is to run it, onnxruntime-tensorrt takes the ONNX file"
        )
    return backend


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """The contract of a model file, without opening it. Raises BadInput where there is none."""
    return read_sidecar(path).spec if is_engine(path) else read_onnx(path).spec(path)

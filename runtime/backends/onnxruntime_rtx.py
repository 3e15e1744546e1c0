"""ONNX Runtime's provider for RTX GPUs: an ONNX file runs through TensorRT for RTX, without an engine of its own.

The provider comes as a package of its own, with its own copy of TensorRT for RTX, and is registered with ONNX Runtime
when it is used. It has not been run on a GPU so far.
"""

from __future__ import annotations

import os
from typing import Any

from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput, CannotRun, install_advice
from aweigh.runtime.spec import ModelSpec

RTX = "NvTensorRTRTXExecutionProvider"
_PACKAGE = "onnxruntime-ep-nv-tensorrt-rtx-cu13"


def open_rtx_session(
    ort: Any, path: str | os.PathLike[str], content: bytes, options: Any, spec: ModelSpec, device: Device
) -> Any:
    """An InferenceSession on this RTX GPU; what the provider lacks runs on the CPU, and is seen in the profile.

    Args:
        ort: the module onnxruntime.
        path: for messages.
        content: the bytes of the file.
        options: of the session, as ``session_options`` makes them; the provider is added.
        spec: gives the shapes that kernels are built for.
        device: ``cuda`` or ``cuda:N``, counted among the GPUs that the provider offers.

    Raises:
        BadInput: no ONNX, or broken.
        CannotRun: the package, its driver or the GPU is missing, or ONNX Runtime left the provider out.
    """
    offered = _devices(ort)
    if device.number >= len(offered):
        raise CannotRun(
            f"device '{device}': {RTX} offers {len(offered) or 'no'} GPUs on this machine; it runs on RTX GPUs"
        )
    options.add_provider_for_devices([offered[device.number]], profile_options(spec))
    try:
        session = ort.InferenceSession(content, options, enable_fallback=0)
    except Exception as error:  # the classes are not public, and their names say less than their messages
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "INVALID_PROTOBUF" in reason:
            raise BadInput(f"{path}: no ONNX file, or a truncated or corrupt one ({reason})") from error
        raise CannotRun(f"{path}: {RTX} could not start ({reason})") from error
    session._model_bytes = None  # held for the fallback alone, see onnxruntime_session.py
    got = session.get_providers()
    if got[:1] != [RTX]:
        raise CannotRun(f"device '{device}': ONNX Runtime gave {', '.join(got)} instead of {RTX}")
    return session


def profile_options(spec: ModelSpec) -> dict[str, str]:
    """The provider's options: shapes from the smallest to the largest batch and size, fast at the largest.

    Example:
        >>> from aweigh.runtime.spec import Category, InputSpec, PostSpec
        >>> spec = ModelSpec("o2f", "nano", (Category(1, "cell"),), InputSpec((64, 96)), PostSpec("none"))
        >>> profile_options(spec)["nv_profile_min_shapes"]
        'images:1x64x96x3'
    """
    low, high = spec.input.size_hw, spec.input.size_hw
    if spec.input.dynamic_size:
        low = (spec.input.pad_multiple,) * 2
        high = (max(high),) * 2 if spec.input.resize == "keep-ratio" else high

    def shape(batch: int, hw: tuple[int, int]) -> str:
        return f"{INPUT_NAME}:{batch}x{hw[0]}x{hw[1]}x3"

    smallest, largest = spec.batch
    best = shape(largest, high)
    return {
        "nv_profile_min_shapes": shape(smallest, low),
        "nv_profile_opt_shapes": best,
        "nv_profile_max_shapes": best,
    }


def _devices(ort: Any) -> list[Any]:
    """GPUs of the provider, which is registered where it is not yet."""
    try:
        import onnxruntime_ep_nv_tensorrt_rtx as provider
    except ImportError as error:
        raise CannotRun(
            f"the back end onnxruntime-rtx needs the package {_PACKAGE} ({error}): {install_advice('onnxruntime-rtx')}"
        ) from error

    def offered() -> list[Any]:
        return [device for device in ort.get_ep_devices() if device.ep_name == RTX]

    if not offered():
        try:
            ort.register_execution_provider_library(RTX, provider.get_library_path())
        except Exception as error:  # as above; libcuda, of the driver, is what is missing most
            raise CannotRun(f"{RTX} does not load ({error}); is there an RTX GPU and its driver?") from error
    return offered()

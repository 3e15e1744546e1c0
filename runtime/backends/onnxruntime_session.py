"""Opening sessions of ONNX Runtime: the module, the providers of a device, settings, and errors in our words."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import Any

from aweigh.runtime.backends.onnxruntime_options import OrtOptions
from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput, CannotRun, install_advice
from aweigh.runtime.machine.facts import sums_int8_exactly

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
TF32_VARIABLE = "NVIDIA_TF32_OVERRIDE"
_ERRORS_ONLY = 3  # the severity of ONNX Runtime's log, which goes to stderr from C++

Providers = list[tuple[str, dict[str, str]]]


def import_onnxruntime() -> Any:
    """The module. Raises CannotRun where neither of its packages is installed."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise CannotRun(
            f"ONNX Runtime is not installed: {install_advice('cpu', 'gpu')}, gpu for CUDA; one environment holds one "
            "of them"
        ) from error
    return onnxruntime


def providers_of(device: Device, tensorrt: bool, options: OrtOptions | None = None) -> Providers:
    """Providers with their options; the first is the one that was asked for, the others complete it.

    Args:
        device: ``cpu`` or ``cuda``.
        tensorrt: through the TensorRT provider.
        options: of the CUDA provider; None for its defaults.

    Raises:
        BadInput: a device that ONNX Runtime does not have, or the CPU with TensorRT.
        CannotRun: TensorRT would round FP32 to TF32.
    """
    if tensorrt:
        Device.parse(device, ("cuda",), "ONNX Runtime's TensorRT provider")
    if device.kind == "cpu":
        return [(CPU, {})]
    index = str(device.number)
    # On by default, and FP32 convolutions would have ten bits of mantissa.
    cuda = (CUDA, {"device_id": index, "use_tf32": "0", **(options or OrtOptions()).of_provider()})
    if not tensorrt:
        return [cuda]
    if os.environ.get(TF32_VARIABLE) != "0":
        raise CannotRun(
            "ONNX Runtime's TensorRT provider computes FP32 in TF32 (ten bits of mantissa), and its only switch is the "
            f"environment: start the process with {TF32_VARIABLE}=0"
        )
    # Nothing of its precision flags: what the graph says holds. NonMaxSuppression is none of its operators by default.
    return [(TENSORRT, {"device_id": index, "trt_engine_cache_enable": "0"}), cuda]


def require_providers(ort: Any, providers: Providers, device: Device) -> None:
    """Raises CannotRun where the installed package was built without one."""
    available = ort.get_available_providers()
    missing = [name for name, _ in providers if name not in available]
    if missing:
        raise CannotRun(
            f"device '{device}': the installed onnxruntime {ort.__version__} has only {', '.join(available)}, not "
            f"{', '.join(missing)}; pip uninstall onnxruntime, then {install_advice('gpu')} "
            "(the two packages must not meet)"
        )
    if providers[0][0] != CPU and hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find; stdout is for results
            ort.preload_dlls()


def session_options(ort: Any, threads: int) -> Any:
    """Options of a session as this package takes them; ``benchmarks/ort_settings.py`` compares them with others."""
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1  # nodes run one after the other
    # One block for all activations of a run, laid out in the run before: more memory, and no faster.
    options.enable_mem_pattern = False
    # Waiting threads sleep instead of spinning. 15 convolutions at 320 px, two threads: 13.4 ms either way on free
    # cores; next to two busy processes 31 ms against 46 ms, as spinning takes the time slices that work needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not sums_int8_exactly():
        # The file's roundings stay as they are; what is computed between them is computed in float. Its kernels in
        # integers overflow on such a CPU: a score of 0.66 became 0.57. (Its own option against that,
        # session.x64quantprecision, fails on networks that use a weight twice.)
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def open_session(
    ort: Any, path: str | os.PathLike[str], content: bytes, options: Any, providers: Providers, device: Device
) -> Any:
    """An InferenceSession on exactly these providers.

    Args:
        path: for messages.
        content: the bytes of the file.

    Raises:
        BadInput: no ONNX, or broken.
        CannotRun: the device, an operator or a version of the format is not available.
    """
    provider = providers[0][0]
    try:
        # With its fallback, the Python class opens a session on the CPU in place of one that fails, when it is made and
        # in the middle of a run.
        session = ort.InferenceSession(content, options, providers=providers, enable_fallback=0)
    except Exception as error:  # the classes are not public, and their names say less than their messages
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "NOT_IMPLEMENTED" in reason:
            raise CannotRun(
                f"{path}: {provider} lacks an operator of this file ({reason}); "
                "another precision or a newer onnxruntime may have it"
            ) from error
        if re.search(r"IR version|opset", reason, flags=re.IGNORECASE):
            raise CannotRun(
                f"{path}: newer than the installed onnxruntime {ort.__version__} reads ({reason})"
            ) from error
        if provider != CPU and re.search(r"cuda|cudnn|cublas|tensorrt", reason, flags=re.IGNORECASE):
            raise CannotRun(f"{path}: {provider} could not start ({reason})") from error
        raise BadInput(f"{path}: no ONNX file, or a truncated or corrupt one ({reason})") from error
    # It keeps the bytes for the fallback, as long as it lives: as much memory again as the weights take.
    session._model_bytes = None
    # CUDA that cannot start is left out with no more than a line in the log.
    got = session.get_providers()
    if got[: len(providers)] != [name for name, _ in providers]:
        raise CannotRun(
            f"device '{device}': ONNX Runtime gave {', '.join(got)} instead of {provider}; CUDA, cuDNN and TensorRT of "
            "the versions that onnxruntime-gpu is built for are needed (its log above names the library)"
        )
    return session

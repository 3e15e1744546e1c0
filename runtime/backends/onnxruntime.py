"""ONNX Runtime on a CPU or a CUDA device."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.backends.base import INPUT_NAME, Backend, output_names
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.machine import available_cores
from aweigh.runtime.onnx_file import read_onnx
from aweigh.runtime.spec import ModelSpec

_ERRORS_ONLY = 3  # the severity of ONNX Runtime's log, which goes to stderr from C++


class OnnxRuntimeBackend(Backend):
    """A session of ONNX Runtime; calls from several threads may overlap."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "cpu",
        threads: int | None = None,
        profile_prefix: Path | None = None,
        optimized_path: Path | None = None,
    ) -> None:
        """Open a file.

        Args:
            path: an ONNX file written by aweigh export.
            device: ``cpu``, ``cuda`` or ``cuda:N``; exactly this one is used or an error raised.
            threads: within an operator; by default the cores this process may use.
            profile_prefix: where ``end_profiling`` writes its JSON; None for no profile.
            optimized_path: where the graph is written as it is executed; None for nowhere.

        Raises:
            BadInput: no such file, no ONNX, not written by aweigh, or a graph that breaks its own contract.
            CannotRun: neither onnxruntime package is installed, or the device or an operator is not to be had.
        """
        if threads is not None and threads < 1:
            raise BadInput(f"threads {threads}: expected at least 1")
        provider, options = _provider(device)
        ort = _import_onnxruntime()
        self.spec = read_onnx(path).spec(path)
        _require_provider(ort, provider, device)
        if provider == "CUDAExecutionProvider" and hasattr(ort, "preload_dlls"):
            with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find; stdout is for results
                ort.preload_dlls()

        settings = ort.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.threads = threads or available_cores()
        settings.intra_op_num_threads = self.threads
        # Waiting threads sleep instead of spinning. 15 convolutions at 320 px, two threads: 13.4 ms either way on free
        # cores; beside two busy processes 31 ms against 46 ms, for spinning takes the time slices that work needs.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if profile_prefix is not None:
            settings.enable_profiling = True
            settings.profile_file_prefix = str(profile_prefix)
        if optimized_path is not None:
            settings.optimized_model_filepath = str(optimized_path)
        self._session: Any = _open(ort, path, settings, provider, options)
        self.providers = tuple(self._session.get_providers())
        if self.providers[0] != provider:
            raise CannotRun(
                f"device {device!r}: ONNX Runtime gave {', '.join(self.providers)} instead of {provider}; CUDA and "
                "cuDNN of the versions that onnxruntime-gpu is built for are needed (its log above names the library)"
            )
        _check_graph(path, self._session, self.spec)

    @property
    def session(self) -> Any:
        """The onnxruntime.InferenceSession, for its inputs, outputs and profile. Raises BadInput after ``close``."""
        if self._session is None:
            raise BadInput("this detector is closed; open the file again")
        return self._session

    def _infer(self, images_u8: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        names = output_names(self.spec.post)
        return dict(zip(names, self.session.run(names, {INPUT_NAME: images_u8}), strict=True))

    def close(self) -> None:
        self._session = None


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise CannotRun(
            "ONNX Runtime is not installed: pip install 'aweigh[cpu]', or 'aweigh[gpu]' for CUDA; "
            "one environment holds one of them"
        ) from error
    return onnxruntime


def _provider(device: str) -> tuple[str, dict[str, str]]:
    if device == "cpu":
        return "CPUExecutionProvider", {}
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if match is None:
        raise BadInput(f"device {device!r}: expected cpu, cuda or cuda:N")
    return "CUDAExecutionProvider", {"device_id": match[1] or "0"}


def _require_provider(ort: Any, provider: str, device: str) -> None:
    available = ort.get_available_providers()
    if provider not in available:
        raise CannotRun(
            f"device {device!r}: the installed onnxruntime {ort.__version__} has only {', '.join(available)}; "
            "pip uninstall onnxruntime, then pip install 'aweigh[gpu]' (the two packages must not meet)"
        )


def _open(ort: Any, path: str | os.PathLike[str], settings: Any, provider: str, options: dict[str, str]) -> Any:
    try:
        return ort.InferenceSession(os.fspath(path), settings, providers=[(provider, options)])
    except Exception as error:  # the classes are not public, and their names tell less than their words
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
        if provider != "CPUExecutionProvider" and re.search(r"cuda|cudnn|cublas", reason, flags=re.IGNORECASE):
            raise CannotRun(f"{path}: {provider} could not start ({reason})") from error
        raise BadInput(f"{path}: no ONNX file, or a truncated or corrupt one ({reason})") from error


def _check_graph(path: str | os.PathLike[str], session: Any, spec: ModelSpec) -> None:
    """The graph must be what the contract in its metadata says."""
    found_in = [(i.name, i.type, list(i.shape)) for i in session.get_inputs()]
    if len(found_in) != 1 or found_in[0][:2] != (INPUT_NAME, "tensor(uint8)") or len(found_in[0][2]) != 4:
        raise BadInput(f"{path}: expected one input {INPUT_NAME!r} uint8 [B, H, W, 3], got {found_in}")
    batch, height, width, channels = found_in[0][2]
    sizes = (None, None) if spec.input.dynamic_size else spec.input.size_hw
    fixed_batch = spec.batch[0] if spec.batch[0] == spec.batch[1] else None
    for axis, got, expected in (
        ("batch", batch, fixed_batch),
        ("height", height, sizes[0]),
        ("width", width, sizes[1]),
        ("channels", channels, 3),
    ):
        # A name stands for any number, so that it takes a fixed one too.
        if isinstance(got, int) and got != expected:
            says = "any" if expected is None else expected
            raise BadInput(f"{path}: {axis} of the graph's input is {got}, its metadata says {says}; export it again")
    missing = set(output_names(spec.post)) - {o.name for o in session.get_outputs()}
    if missing:
        raise BadInput(
            f"{path}: post-processing {spec.post.kind!r} needs the outputs {', '.join(output_names(spec.post))}; "
            f"missing {', '.join(sorted(missing))}"
        )

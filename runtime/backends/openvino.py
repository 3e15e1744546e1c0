"""OpenVINO on a CPU or an Intel GPU: reads the ONNX file as it is."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.backends.base import INPUT_NAME, Backend
from aweigh.runtime.backends.contract import GraphInput, check_graph
from aweigh.runtime.backends.negotiate import computed_precision, wanted_precision
from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput, CannotRun, install_advice
from aweigh.runtime.files.golden import GOLDEN_KEY
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.machine.facts import available_cores

_NAME = "OpenVINO"
# Our names, those of its hint for what is not quantised, and of its layers and capabilities.
_TYPES = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
_CAPABILITIES = {"fp16": "FP16", "bf16": "BF16"}
_PRECISION_OF = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}
_TELEMETRY = "openvino_telemetry"
_IOU_THRESHOLD = 3  # which input of NonMaxSuppression
_LAYER = re.compile(r"(group)?convolution", re.IGNORECASE)


class OpenVinoBackend(Backend):
    """A compiled model and as many inference requests as calls ran at once; one works at a time, with all threads.

    ``providers`` holds OpenVINO's version and the device.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str | Device = "cpu",
        threads: int | None = None,
        *,
        precision: str | None = None,
    ) -> None:
        """Compile a file.

        Args:
            path: an ONNX file written by aweigh export.
            device: ``cpu``, ``gpu`` or ``gpu:N`` as OpenVINO numbers them.
            threads: of the network on a CPU; by default the cores this process may use.
            precision: None for what the file says, and never less; of a file of FP32 also ``bf16`` and ``fp16``, for
                all but the post-processing.

        Raises:
            BadInput: no such file, not a file of aweigh export, a graph that breaks its own contract, a device or
                precision that this back end does not know.
            CannotRun: OpenVINO is not installed; it has no such device, no arithmetic of that precision on it, or no
                such operator.
        """
        if threads is not None and threads < 1:
            raise BadInput(f"threads {threads}: expected at least 1")
        device = Device.parse(device, ("cpu", "gpu"), _NAME)
        name = _openvino_name(device)
        parsed = read_onnx(path)
        self.sha256 = parsed.sha256
        self.spec = parsed.spec(path)
        self.golden = parsed.metadata.get(GOLDEN_KEY)
        others = ("bf16", "fp16") if self.spec.precision == "fp32" else ()
        wanted = wanted_precision(path, self.spec.precision, precision, _NAME, others)
        ov = _import_openvino()
        core = ov.Core()
        _require_device(core, name, device)
        self.threads = threads or available_cores()
        hint = _hint(core, name, wanted, asked=precision is not None)
        settings: dict[str, Any] = {
            # Without it OpenVINO takes bf16 on CPUs that have it, and half on GPUs, for a file of FP32.
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if name == "CPU":
            # Pinned threads of several detectors, or of other processes, would wait for each other on the same cores.
            settings |= {"INFERENCE_NUM_THREADS": self.threads, "ENABLE_CPU_PINNING": False}
        try:
            model = core.read_model(io.BytesIO(parsed.content))
            _suppress_above_the_threshold_alone(model)
            self._compiled: Any = core.compile_model(model, name, settings)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CannotRun(f"{path}: OpenVINO {ov.__version__} cannot take this graph ({reason[:400]})") from error
        check_graph(path, *_ports(self._compiled), self.spec)
        self.providers = (f"OpenVINO {ov.__version__}", str(core.get_property(name, "FULL_DEVICE_NAME")))
        self._require_as_asked(str(path), name, hint)
        self.layers = _count_layers(self._compiled)
        self.precision = computed_precision(path, wanted, precision, self.layers, _NAME)
        self._idle: list[Any] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._compiled = None
            self._idle = []

    def _infer(self, images_u8: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        with self._lock:
            if self._compiled is None:
                raise BadInput("this detector is closed; open the file again")
            request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
        request.infer({INPUT_NAME: images_u8}, share_inputs=True)
        # Copies: the request writes to the same memory again.
        outputs = {name: np.array(request.get_tensor(name).data) for name in self.spec.post.output_names}
        with self._lock:
            if self._compiled is not None:
                self._idle.append(request)
        return outputs

    def _require_as_asked(self, path: str, name: str, hint: str) -> None:
        """Raises CannotRun where the compiled model reports another device or type than requested."""
        devices = [str(device) for device in self._compiled.get_property("EXECUTION_DEVICES")]
        if devices not in ([name], [f"{name}.0"]):
            raise CannotRun(f"{path}: device {name} was asked for, OpenVINO runs it on {', '.join(devices)}")
        got = str(self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
        if got != hint:
            raise CannotRun(f"{path}: {hint} was asked for, OpenVINO compiled it for {got}; take another precision")


def _openvino_name(device: Device) -> str:
    return device.kind.upper() if device.index is None else f"GPU.{device.index}"


def _import_openvino() -> Any:
    """The module, which reports its import to its makers where openvino-telemetry is installed, as its wheel wants it:
    it does not find that package here.
    """
    first = "openvino" not in sys.modules
    if first:
        sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]  # an import of None fails
    try:
        import openvino
    except ImportError as error:
        raise CannotRun(f"OpenVINO is not installed ({error}): {install_advice('openvino')}") from error
    finally:
        if first and sys.modules.get(_TELEMETRY) is None:
            sys.modules.pop(_TELEMETRY, None)
    return openvino


def _require_device(core: Any, name: str, device: Device) -> None:
    """OpenVINO lists a single GPU as ``GPU``, several as ``GPU.0``, ``GPU.1``; ``GPU`` is then the first of them."""
    available = list(core.available_devices)
    if name not in available and not (name == "GPU" and "GPU.0" in available):
        raise CannotRun(
            f"device '{device}': OpenVINO finds {', '.join(available) or 'none'} here; an Intel GPU needs its driver"
        )


def _hint(core: Any, name: str, wanted: str, asked: bool) -> str:
    """The type for what is not quantised; a file in half may be computed in float where there is no half."""
    if wanted == "int8":
        return "f32"
    capability = _CAPABILITIES.get(wanted)
    there = core.get_property(name, "OPTIMIZATION_CAPABILITIES")
    if capability is None or capability in there:
        return _TYPES[wanted]
    if asked:
        raise CannotRun(
            f"precision {wanted!r}: OpenVINO has no such arithmetic on this {name}, which has "
            f"{', '.join(sorted(there))}; leave --precision out"
        )
    return "f32"


def _suppress_above_the_threshold_alone(model: Any) -> None:
    """ONNX suppresses a box whose IoU with a better one is above the threshold, OpenVINO also one that is at it, as
    boxes of whole pixels can be. At or above the next number is the same as above this one.
    """
    from openvino import opset13

    for node in model.get_ops():
        if node.get_type_name() == "NonMaxSuppression":
            threshold = node.input_value(_IOU_THRESHOLD).get_node().get_data().astype(np.float32)
            above = opset13.constant(np.nextafter(threshold, np.float32(np.inf)))
            node.input(_IOU_THRESHOLD).replace_source_output(above.output(0))


def _count_layers(compiled: Any) -> dict[str, int]:
    """Convolutions by what the compiled model computes them in."""
    counts: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if _LAYER.fullmatch(info["layerType"].astype(str)):
            kind = info["runtimePrecision"].astype(str)
            counts[_PRECISION_OF.get(kind, kind)] += 1
    return dict(counts)


def _ports(compiled: Any) -> tuple[list[GraphInput], list[str]]:
    inputs = [
        GraphInput(
            port.get_any_name(),
            str(np.dtype(port.element_type.to_dtype())),
            tuple(size.get_length() if size.is_static else None for size in port.partial_shape),
        )
        for port in compiled.inputs
    ]
    return inputs, [name for port in compiled.outputs for name in port.names]

"""TensorRT on an NVIDIA GPU: a plain plan and its sidecar, run without torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.backends.base import INPUT_NAME, Backend
from aweigh.runtime.backends.negotiate import wanted_precision
from aweigh.runtime.backends.tensorrt.cuda_memory import Cuda, device_index, import_cudart
from aweigh.runtime.backends.tensorrt.lane import Lane, Port
from aweigh.runtime.backends.tensorrt.library import (
    LogTail,
    construct,
    fingerprint_here,
    import_tensorrt,
    make_logger,
    numpy_dtype,
    require,
)
from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.files.engine import EngineFile, read_plan, read_sidecar
from aweigh.runtime.files.fingerprint import rebuild_hint, require_fit
from aweigh.runtime.spec import ModelSpec

if TYPE_CHECKING:
    import tensorrt as trt

LANES = 4
HOST_CODE_VARIABLE = "AWEIGH_ENGINE_HOST_CODE"
# What a plan may have in place of a type of the ONNX file: TensorRT keeps INT64, older front ends narrow it.
_NARROWED = {"int64": "int32"}


class TensorRtBackend(Backend):
    """An engine with a few lanes (context, stream, buffers): as many calls run at once as there are lanes, further ones
    wait.

    ``providers`` tells TensorRT's version, the GPU, whether a CUDA graph is replayed or why not, and remarks on a plan
    that fits but was built on another GPU.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str | Device = "cuda",
        lanes: int | None = None,
        *,
        precision: str | None = None,
    ) -> None:
        """Open a plan and run it once, so that what cannot work fails here.

        Args:
            path: a plan with its sidecar, as ``aweigh export --format engine`` writes them.
            device: ``cuda`` or ``cuda:N``.
            lanes: calls that run at once, at least 1; each has scratch memory of its own. By default 4, made as they
                are needed.
            precision: None for what the engine was built in; another is refused.

        Raises:
            BadInput: no such file, plan and sidecar that do not belong together, or another precision.
            CannotRun: no TensorRT, no GPU, or a plan for another TensorRT, driver or GPU.
        """
        if lanes is not None and lanes < 1:
            raise BadInput(f"threads {lanes}: expected at least 1")
        index = device_index(device)
        self.engine_file = read_sidecar(path)
        self.spec = self.engine_file.spec
        self.golden = self.engine_file.golden
        # The build read it back from the engine, whose layers are fused beyond counting convolutions.
        self.precision = wanted_precision(path, self.spec.precision, precision, "TensorRT")
        self.layers = {}
        import_tensorrt()
        self._cuda = Cuda(import_cudart(), index)
        here = fingerprint_here(self._cuda)
        settings = self.engine_file.settings
        remarks = require_fit(
            str(path), self.engine_file.built, here, settings.version_compatible, settings.hardware_compatible
        )
        self._log = LogTail()
        self._logger = make_logger(self._log)  # TensorRT does not keep it alive
        self._engine: trt.ICudaEngine | None = self._deserialize(str(path), read_plan(path, self.engine_file))
        self._source, self._outputs = _ports(str(path), self._engine, self.engine_file)
        self.threads = lanes or LANES
        self._free: list[Lane] = []
        self._all: list[Lane] = []
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(self.threads)
        self._want_graph, why_not = graph_wanted(self.spec)
        self._warm_up()
        lane = self._all[0]
        graph = "CUDA graph" if lane.has_graph else f"no CUDA graph: {lane.graph_refusal or why_not}"
        self.providers = (f"TensorRT {here.tensorrt}", here.gpu, graph, *remarks)

    def memory(self) -> dict[str, int | None]:
        """Device memory in bytes.

        Returns:
            ``weights`` (None where this TensorRT does not tell), ``scratch`` (activations, of all lanes together, as
            the engine asks for its largest profile), ``buffers``, ``pinned_host`` (on the host), ``lanes`` (their
            number), ``device_free`` and ``device_total`` (all processes).
        """
        engine = require(self._engine, "this detector is closed; open the file again")
        self._cuda.use()
        with self._lock:
            lanes = list(self._all)
        buffers = [lane.buffer_bytes for lane in lanes]
        free, total = self._cuda.memory_bytes()
        return {
            "weights": _weights_bytes(engine),
            "scratch": int(engine.device_memory_size_v2) * len(lanes),
            "buffers": sum(device for device, _ in buffers),
            "pinned_host": sum(host for _, host in buffers),
            "lanes": len(lanes),
            "device_free": free,
            "device_total": total,
        }

    def device_ms(self, images_u8: npt.NDArray[np.uint8]) -> float:
        self.check_batch(images_u8)
        with self._lane() as lane:
            return lane.device_ms(np.ascontiguousarray(images_u8))

    def close(self) -> None:
        """Idle lanes go at once, busy ones when their call ends."""
        with self._lock:
            self._engine = None
            idle, self._free = self._free, []
            self._all = [lane for lane in self._all if lane not in idle]
        for lane in idle:
            lane.close()

    def _infer(self, images_u8: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        with self._lane() as lane:
            outputs = lane.run(images_u8)
        # As the ONNX file gives them, whatever integers the plan has.
        return {o.name: outputs[o.name].astype(o.dtype, copy=False) for o in self.spec.post.outputs}

    @contextmanager
    def _lane(self) -> Iterator[Lane]:
        with self._places:
            with self._lock:
                if self._engine is None:
                    raise BadInput("this detector is closed; open the file again")
                engine = self._engine
                lane = self._free.pop() if self._free else None
            if lane is None:
                lane = self._make_lane(engine)
            try:
                yield lane
            finally:
                with self._lock:
                    closed = self._engine is None
                    if closed:
                        self._all.remove(lane)
                    else:
                        self._free.append(lane)
                if closed:
                    lane.close()

    def _make_lane(self, engine: trt.ICudaEngine) -> Lane:
        self._cuda.use()
        profiles = self.engine_file.profiles
        lane = Lane(self._cuda, engine, self._log, profiles, self._source, self._outputs, self._want_graph)
        with self._lock:
            self._all.append(lane)
        return lane

    def _deserialize(self, path: str, plan: bytes) -> trt.ICudaEngine:
        import tensorrt as trt

        runtime = construct(trt.Runtime, self._logger, log=self._log)
        if self.engine_file.settings.version_compatible:
            # Such a plan brings a library along, which is executed on the host: not without being asked.
            if os.environ.get(HOST_CODE_VARIABLE) != "1":
                raise CannotRun(
                    f"{path}: built with --version-compatible, such a plan carries code that is executed on this "
                    f"machine; set {HOST_CODE_VARIABLE}=1 if you trust where it comes from, or {rebuild_hint(path)}"
                )
            runtime.engine_host_code_allowed = True
        self._runtime = runtime  # an engine does not outlive it
        refused = f"{path}: TensorRT {trt.__version__} does not take this plan; {rebuild_hint(path)}"
        return require(runtime.deserialize_cuda_engine(plan), refused, self._log)

    def _warm_up(self) -> None:
        try:
            self._infer(np.zeros(self.engine_file.profiles[0].min, np.uint8))
        except BaseException:
            self.close()
            raise


def graph_wanted(spec: ModelSpec) -> tuple[bool, str]:
    """Whether a CUDA graph of the whole engine is tried, and the reason where it is not.

    A graph repeats the very same work: it needs one fixed shape, and nothing inside whose size depends on the data.
    """
    if spec.batch[0] != spec.batch[1]:
        return False, f"the engine takes {spec.batch[0]} to {spec.batch[1]} pictures; export it with --batch N for one"
    if spec.input.dynamic_size:
        return False, "the engine takes pictures of many sizes"
    if spec.post.nms_form == "onnx":
        return False, "the NonMaxSuppression operator inside has results of unknown number; export with --nms matrix"
    return True, ""


def _ports(path: str, engine: trt.ICudaEngine, file: EngineFile) -> tuple[Port, list[Port]]:
    """Input and outputs as the contract names them. Raises BadInput where the plan does not have them."""
    plan_names = {tensor.name: tensor.plan_name for tensor in file.tensors}
    there = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
    wanted = {INPUT_NAME: "uint8", **{output.name: output.dtype for output in file.spec.post.outputs}}
    missing = [name for name in wanted if plan_names.get(name) not in there]
    if missing:
        raise BadInput(
            f"{path}: the plan has the tensors {', '.join(sorted(there))}; {', '.join(missing)} of the contract "
            f"{'is' if len(missing) == 1 else 'are'} missing; {rebuild_hint(path)}"
        )
    ports = []
    for name, expected in wanted.items():
        dtype = numpy_dtype(engine.get_tensor_dtype(plan_names[name]), name)
        if dtype not in (np.dtype(expected), np.dtype(_NARROWED.get(expected, expected))):
            raise BadInput(f"{path}: tensor {name!r} of the plan is {dtype}, expected {expected}; {rebuild_hint(path)}")
        ports.append(Port(name, plan_names[name], dtype))
    return ports[0], ports[1:]


def _weights_bytes(engine: trt.ICudaEngine) -> int | None:
    """Since TensorRT 10.14."""
    import tensorrt as trt

    if not hasattr(engine, "get_engine_stat"):
        return None
    return int(engine.get_engine_stat(trt.EngineStat.TOTAL_WEIGHTS_SIZE))

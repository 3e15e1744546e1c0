"""TensorRT on an NVIDIA GPU: a plain plan and its sidecar, of either flavour, run without torch."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.backends.base import Backend
from aweigh.runtime.backends.cuda_memory import Cuda, device_index, import_cudart
from aweigh.runtime.backends.negotiate import wanted_precision
from aweigh.runtime.backends.tensorrt.lane import Lane
from aweigh.runtime.backends.tensorrt.library import (
    LogTail,
    construct,
    fingerprint_here,
    load,
    make_logger,
    require,
)
from aweigh.runtime.backends.tensorrt.ports import find_ports
from aweigh.runtime.backends.tensorrt.rtx import CacheKey, RtxRuntime
from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.files.engine import read_plan, read_sidecar
from aweigh.runtime.files.fingerprint import Fingerprint, rebuild_hint, require_fit
from aweigh.runtime.files.flavours import FLAVOURS, RTX
from aweigh.runtime.spec import ModelSpec

if TYPE_CHECKING:
    import tensorrt as trt

LANES = 4
HOST_CODE_VARIABLE = "AWEIGH_ENGINE_HOST_CODE"


class TensorRtBackend(Backend):
    """An engine with a few lanes (context, stream, buffers): as many calls run at once as there are lanes, further ones
    wait.

    ``providers`` has the library's version, the GPU, whether a CUDA graph is replayed or why not, and remarks: on a
    plan that fits but was built on another GPU, and, with TensorRT for RTX, on its cache of kernels.
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
            CannotRun: the library that built the plan or the GPU is missing, or the plan is for another version, driver
                or GPU.
        """
        if lanes is not None and lanes < 1:
            raise BadInput(f"threads {lanes}: expected at least 1")
        index = device_index(device)
        self.engine_file = read_sidecar(path)
        self.spec = self.engine_file.spec
        self.sha256 = self.engine_file.plan_sha256  # ``read_plan`` holds the plan against it
        self.golden = self.engine_file.golden
        # As the build read it from the network, or, before there was an audit, from the engine.
        self.precision = wanted_precision(path, self.spec.precision, precision, "TensorRT")
        audit = self.engine_file.audit
        self.layers = audit.convolutions if audit else {}
        flavour = FLAVOURS[self.engine_file.flavour]
        self._module = load(flavour, to_run=True)
        self._cuda = Cuda(import_cudart(flavour.install), index)
        here = fingerprint_here(self._module, self._cuda)
        settings = self.engine_file.settings
        remarks = require_fit(
            str(path),
            self.engine_file.built,
            here,
            settings.version_compatible,
            settings.hardware_compatible,
            flavour=flavour.name,
            targets=self.engine_file.targets,
        )
        self._log = LogTail()
        self._logger = make_logger(self._module, self._log)  # TensorRT does not keep it alive
        self._engine: trt.ICudaEngine | None = self._deserialize(str(path), read_plan(path, self.engine_file))
        self._source, self._outputs = find_ports(self._module, str(path), self._engine, self.engine_file)
        self.threads = lanes or LANES
        self._free: list[Lane] = []
        self._all: list[Lane] = []
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(self.threads)
        self._want_graph, why_not = graph_wanted(self.spec, self.engine_file.branches)
        self._rtx = self._rtx_runtime(Path(path), here) if flavour is RTX else None
        self._warm_up()
        lane = self._all[0]
        if self._rtx is None:
            graph = "CUDA graph" if lane.has_graph else f"no CUDA graph: {lane.graph_refusal or why_not}"
        else:
            graph = "CUDA graph of the library" if self._want_graph else f"no CUDA graph: {why_not}"
            remarks = (*remarks, *self._rtx.remarks)
        self.providers = (f"{flavour.title} {here.tensorrt}", here.gpu, graph, *remarks)

    def memory(self) -> dict[str, int | None]:
        """Device memory in bytes.

        Returns:
            ``weights`` (None where TensorRT does not report it), ``scratch`` (activations, of all lanes together, as
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
            "weights": _weights_bytes(self._module, engine),
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
        make_context = engine.create_execution_context if self._rtx is None else self._rtx.make_context
        lane = Lane(
            self._cuda,
            self._module,
            make_context,
            self._log,
            self.engine_file.profiles,
            self._source,
            self._outputs,
            want_graph=self._want_graph and self._rtx is None,  # TensorRT for RTX records one of its own
        )
        with self._lock:
            self._all.append(lane)
        return lane

    def _deserialize(self, path: str, plan: bytes) -> trt.ICudaEngine:
        if TYPE_CHECKING:
            import tensorrt as trt
        else:
            trt = self._module
        runtime = construct(trt.Runtime, self._logger, log=self._log)
        hint = rebuild_hint(path, self.engine_file.flavour)
        if self.engine_file.settings.version_compatible:
            # Such a plan brings a library along, which is executed on the host: not without being asked.
            if os.environ.get(HOST_CODE_VARIABLE) != "1":
                raise CannotRun(
                    f"{path}: built with --version-compatible, such a plan carries code that is executed on this "
                    f"machine; set {HOST_CODE_VARIABLE}=1 if you trust where it comes from, or {hint}"
                )
            runtime.engine_host_code_allowed = True
        self._runtime = runtime  # an engine does not outlive it
        title = FLAVOURS[self.engine_file.flavour].title
        refused = f"{path}: {title} {trt.__version__} does not take this plan; {hint}"
        return require(runtime.deserialize_cuda_engine(plan), refused, self._log)

    def _rtx_runtime(self, path: Path, here: Fingerprint) -> RtxRuntime:
        return RtxRuntime(
            self._module,
            require(self._engine, "this detector is closed; open the file again"),
            path,
            CacheKey.of(self.engine_file.plan_sha256, here),
            fixed=all(profile.fixed for profile in self.engine_file.profiles),
            capture=self._want_graph,
            log=self._log,
        )

    def _warm_up(self) -> None:
        """One run, so that what cannot work fails here; with TensorRT for RTX one of each profile, and its time.

        The first run of a shape compiles its kernels, unless they are in the cache: a server is ready only afterwards.
        """
        profiles = self.engine_file.profiles
        try:
            if self._rtx is None:
                self._infer(np.zeros(profiles[0].min, np.uint8))
                return
            begin = time.perf_counter()
            for profile in profiles:
                self._infer(np.zeros(profile.opt, np.uint8))
            self.jit_ms = (time.perf_counter() - begin) * 1e3
            self._rtx.keep_cache()
        except BaseException:
            self.close()
            raise


def graph_wanted(spec: ModelSpec, branches: bool = False) -> tuple[bool, str]:
    """Whether a CUDA graph of the whole engine is tried, and the reason where it is not.

    ``branches``: see EngineFile.

    A graph repeats the very same work: it needs one fixed shape, and nothing inside whose size depends on the data.
    """
    if spec.batch[0] != spec.batch[1]:
        return False, f"the engine takes {spec.batch[0]} to {spec.batch[1]} images; export it with --batch N for one"
    if spec.input.dynamic_size:
        return False, "the engine takes images of many sizes"
    if spec.post.nms_form == "onnx":
        return False, "the NonMaxSuppression operator inside has results of unknown number; export with --nms matrix"
    if branches:
        return False, (
            "the NMS inside stops early, by a branch that depends on the data; an engine made of the checkpoint "
            "(aweigh export --model CHECKPOINT --format engine) has none"
        )
    return True, ""


def _weights_bytes(trt_module: Any, engine: trt.ICudaEngine) -> int | None:
    """Since TensorRT 10.14."""
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = trt_module
    if not hasattr(engine, "get_engine_stat"):
        return None
    return int(engine.get_engine_stat(trt.EngineStat.TOTAL_WEIGHTS_SIZE))

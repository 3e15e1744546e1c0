"""Stand-ins for the modules tensorrt and cuda.bindings.runtime, whose memory is the host's.

They follow the calls as the back end makes them (order, types, addresses), and compute with ONNX Runtime what the plan
would: a plan is an ONNX file here. They are no evidence about TensorRT; what runs on a GPU is tested by the marker
``gpu``.
"""

# ruff: noqa: N802, N815 (names of the CUDA runtime)
from __future__ import annotations

import ctypes
import enum
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest


class CudaError(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorStreamCaptureUnsupported = 900


class CudaRuntime:
    """A device whose memory is malloc's; a captured graph is the list of its calls."""

    cudaError_t = CudaError
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaStreamNonBlocking = 1

    def __init__(self) -> None:
        self.blocks: dict[int, Any] = {}
        self.recording: dict[int, list[Any]] = {}
        self.graphs: dict[int, list[Any]] = {}
        self.streams: set[int] = set()
        self.launches = 0
        self.devices = 1
        self.bytes_left = 1 << 30
        self._next = 100

    def _handle(self) -> int:
        self._next += 1
        return self._next

    def _allocate(self, size: int) -> tuple[CudaError, int | None]:
        if size > self.bytes_left:
            return CudaError.cudaErrorMemoryAllocation, None
        block = (ctypes.c_uint8 * size)()
        self.blocks[ctypes.addressof(block)] = block
        return CudaError.cudaSuccess, ctypes.addressof(block)

    def _release(self, pointer: int) -> tuple[CudaError]:
        del self.blocks[pointer]
        return (CudaError.cudaSuccess,)

    cudaMalloc = cudaMallocHost = _allocate
    cudaFree = cudaFreeHost = _release

    def cudaGetDeviceCount(self) -> Any:
        return CudaError.cudaSuccess, self.devices

    def cudaSetDevice(self, index: int) -> Any:
        return (CudaError.cudaSuccess,)

    def cudaGetErrorString(self, error: CudaError) -> Any:
        return CudaError.cudaSuccess, error.name.encode()

    def cudaGetLastError(self) -> Any:
        return (CudaError.cudaSuccess,)

    def cudaMemGetInfo(self) -> Any:
        return CudaError.cudaSuccess, self.bytes_left, 1 << 30

    def cudaRuntimeGetVersion(self) -> Any:
        return CudaError.cudaSuccess, 13000

    def cudaDriverGetVersion(self) -> Any:
        return CudaError.cudaSuccess, 13010

    def cudaGetDeviceProperties(self, index: int) -> Any:
        return CudaError.cudaSuccess, SimpleNamespace(name=b"Stand-in GPU", major=9, minor=0)

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        stream = self._handle()
        self.streams.add(stream)
        return CudaError.cudaSuccess, stream

    def cudaStreamDestroy(self, stream: int) -> Any:
        self.streams.remove(stream)
        return (CudaError.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> Any:
        assert stream in self.streams
        assert stream not in self.recording, "a stream that is captured cannot be waited for"
        return (CudaError.cudaSuccess,)

    def enqueue(self, stream: int, work: Any) -> None:
        if stream in self.recording:
            self.recording[stream].append(work)
        else:
            work()

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> Any:
        self.enqueue(stream, lambda: ctypes.memmove(to, source, size))
        return (CudaError.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> Any:
        self.recording[stream] = []
        return (CudaError.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> Any:
        graph = self._handle()
        self.graphs[graph] = self.recording.pop(stream)
        return CudaError.cudaSuccess, graph

    def cudaGraphInstantiate(self, graph: int, flags: int) -> Any:
        executable = self._handle()
        self.graphs[executable] = self.graphs[graph]
        return CudaError.cudaSuccess, executable

    def cudaGraphDestroy(self, graph: int) -> Any:
        del self.graphs[graph]
        return (CudaError.cudaSuccess,)

    cudaGraphExecDestroy = cudaGraphDestroy

    def cudaGraphLaunch(self, graph: int, stream: int) -> Any:
        self.launches += 1
        for work in self.graphs[graph]:
            work()
        return (CudaError.cudaSuccess,)


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    Severity = Severity
    WARNING = Severity.WARNING


class IOutputAllocator:
    pass


DataType = enum.Enum("DataType", "FLOAT HALF INT8 INT32 INT64 BOOL UINT8 BF16")
_ONNX_TYPES = {
    "tensor(uint8)": (DataType.UINT8, np.uint8),
    "tensor(float)": (DataType.FLOAT, np.float32),
    "tensor(int64)": (DataType.INT64, np.int64),
    "tensor(bool)": (DataType.BOOL, np.bool_),
}


class Engine:
    """``narrow``: labels and counts as INT32; ``data_dependent``: outputs of a size that only a run tells."""

    device_memory_size_v2 = 1000

    def __init__(self, plan: bytes, module: TensorRt) -> None:
        self.session: Any = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.module = module
        self.tensors = {t.name: t for t in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        dtype = _ONNX_TYPES[self.tensors[name].type][0]
        return DataType.INT32 if self.module.narrow and dtype == DataType.INT64 else dtype

    def create_execution_context(self) -> Context | None:
        return Context(self) if self.module.contexts_left else None


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.module = engine, engine.module
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}
        self.shape: tuple[int, ...] | None = None
        self.profile = 0
        self.runs = 0

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile, self.shape = profile, None
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "images"
        self.shape = shape
        return True

    def infer_shapes(self) -> list[str]:
        return []

    def _outputs(self, images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        names = [t.name for t in self.engine.session.get_outputs()]
        values = dict(zip(names, self.engine.session.run(names, {"images": images}), strict=True))
        narrow = self.module.narrow
        return {n: v.astype(np.int32) if narrow and v.dtype == np.int64 else v for n, v in values.items()}

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self.shape is not None
        shape = self._outputs(np.zeros(self.shape, np.uint8))[name].shape
        return (shape[0], -1, *shape[2:]) if name in self.module.data_dependent else shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in self.module.cuda.blocks
        self.addresses[name] = address
        return True

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        self.allocators[name] = allocator
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if stream in self.module.cuda.recording and not self.module.capturable:
            self.module.loggers[-1].log(Severity.ERROR, "operation not permitted\nwhen stream is capturing")
            return False
        self.module.cuda.enqueue(stream, lambda: self._run(stream))
        return True

    def _run(self, stream: int) -> None:
        assert self.shape is not None
        self.runs += 1
        size = int(np.prod(self.shape))
        images = np.frombuffer(ctypes.string_at(self.addresses["images"], size), np.uint8).reshape(self.shape)
        for name, value in self._outputs(images).items():
            address = self.addresses.get(name)
            if name in self.allocators:
                address = self.allocators[name].reallocate_output_async(name, 0, value.nbytes, 256, stream)
                self.allocators[name].notify_shape(name, value.shape)
            if address:
                ctypes.memmove(address, np.ascontiguousarray(value).ctypes.data, value.nbytes)


class TensorRt(ModuleType):
    """The module: names as TensorRT's, and switches for what goes wrong."""

    ILogger = ILogger
    IOutputAllocator = IOutputAllocator
    DataType = DataType

    def __init__(self, cuda: CudaRuntime, version: str = "11.4.0.106") -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self.cuda = cuda
        self.narrow = False
        self.capturable = True
        self.contexts_left = True
        self.readable = True
        self.data_dependent: tuple[str, ...] = ()
        self.loggers: list[Any] = []
        self.runtimes: list[Any] = []
        self.Runtime = self._make_runtime

    def _make_runtime(self, logger: Any) -> Any:
        self.loggers.append(logger)
        runtime = SimpleNamespace(engine_host_code_allowed=False, deserialize_cuda_engine=self._deserialize)
        self.runtimes.append(runtime)
        return runtime

    def _deserialize(self, plan: bytes) -> Engine | None:
        if not self.readable:
            self.loggers[-1].log(Severity.ERROR, "the plan was made by another library")
            return None
        return Engine(plan, self)


@pytest.fixture
def cudart() -> CudaRuntime:
    return CudaRuntime()


@pytest.fixture
def tensorrt(cudart: CudaRuntime, monkeypatch: pytest.MonkeyPatch) -> TensorRt:
    """Both stand-ins, installed; switches are set on the value."""
    module = TensorRt(cudart)
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = cudart  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    return module

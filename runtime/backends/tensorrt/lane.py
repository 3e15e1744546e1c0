"""Lane: one execution context of an engine with its stream and its buffers; one thread at a time uses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.backends.cuda_memory import Cuda, DeviceBuffer, HostBuffer, free_all
from aweigh.runtime.backends.tensorrt.library import LogTail, check, require, shape_of
from aweigh.runtime.errors import CannotRun
from aweigh.runtime.files.shape_ranges import ShapeProfile, choose_profile

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True)
class Port:
    """An input or output: name in the contract, name and numpy type in the plan."""

    name: str
    plan_name: str
    dtype: np.dtype[Any]


class Lane:
    """Runs batches one after the other.

    Shapes and addresses are set when a shape is new, and stand until the next new one. Where all shapes are fixed,
    copies and kernels are recorded once as a CUDA graph, and replayed.

    Attributes:
        graph_refusal: why there is no CUDA graph though one was asked for; None where there is one, or none was asked.
    """

    def __init__(
        self,
        cuda: Cuda,
        trt_module: Any,
        make_context: Callable[[], trt.IExecutionContext | None],
        log: LogTail,
        profiles: Sequence[ShapeProfile],
        source: Port,
        outputs: Sequence[Port],
        want_graph: bool,
    ) -> None:
        """Raises CannotRun where the device has no memory left for another context.

        ``trt_module`` is the library, whose ``make_context`` gives a context of the engine.
        """
        self._cuda, self._log, self._profiles, self._source = cuda, log, profiles, source
        self._outputs = [_Output(cuda, trt_module, port) for port in outputs]
        self._host, self._device = HostBuffer(cuda), DeviceBuffer(cuda)
        self._shape: tuple[int, ...] | None = None
        self._profile = 0
        self._graph = 0
        self._want_graph = want_graph
        self.graph_refusal: str | None = None
        self._stream = cuda.stream()
        try:
            self._context: trt.IExecutionContext | None = require(
                make_context(), "no execution context could be made", log
            )
        except BaseException:
            cuda.call("cudaStreamDestroy", self._stream)
            raise

    @property
    def has_graph(self) -> bool:
        """Whether runs replay a CUDA graph."""
        return self._graph != 0

    @property
    def buffer_bytes(self) -> tuple[int, int]:
        """(device, page-locked host) memory of the buffers; the context's own scratch memory apart."""
        buffers = [(self._device.nbytes, self._host.nbytes)]
        buffers += [(output.device.nbytes, output.host.nbytes) for output in self._outputs]
        device, host = zip(*buffers, strict=True)
        return sum(device), sum(host)

    def run(self, images_u8: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        """Outputs by name of the contract, in the plan's types; copies that nothing else writes to.

        Raises:
            BadInput: a shape that no profile covers.
            CannotRun: TensorRT or CUDA failed.
        """
        self._load(images_u8)
        self._launch()
        self._cuda.synchronize(self._stream)
        return {output.port.name: output.result(self._stream) for output in self._outputs}

    def device_ms(self, images_u8: npt.NDArray[np.uint8]) -> float:
        """Milliseconds of a run by the device's own clock: copies and kernels, not the host's share. Raises as run."""
        self._load(images_u8)
        return self._cuda.elapsed_ms(self._stream, self._launch)

    def close(self) -> None:
        """Give everything back; a second call does nothing."""
        if self._context is None:
            return
        self._cuda.use()
        self._context = None  # before the buffers that it has the addresses of
        free_all(
            self._drop_graph,
            lambda: self._cuda.call("cudaStreamDestroy", self._stream),
            self._device.free,
            self._host.free,
            *(step for output in self._outputs for step in (output.device.free, output.host.free)),
        )

    def _load(self, images_u8: npt.NDArray[np.uint8]) -> None:
        self._cuda.use()
        if images_u8.shape != self._shape:
            self._reshape(images_u8)
        self._host.view(images_u8.shape, np.uint8)[...] = images_u8

    def _launch(self) -> None:
        if self._graph:
            self._cuda.call("cudaGraphLaunch", self._graph, self._stream)
        else:
            self._enqueue()

    def _reshape(self, images_u8: npt.NDArray[np.uint8]) -> None:
        context = require(self._context, "this engine is closed; open the file again")
        self._shape = None  # should anything fail on the way, the next call begins anew
        self._drop_graph()
        profile = choose_profile(self._profiles, images_u8.shape)
        if profile != self._profile:
            switched = context.set_optimization_profile_async(profile, self._stream)
            check(switched, f"profile {profile} could not be chosen", self._log)
            self._cuda.synchronize(self._stream)
            self._profile = profile
        name, shape = self._source.plan_name, images_u8.shape
        check(context.set_input_shape(name, tuple(shape)), f"input shape {list(shape)} was refused", self._log)
        missing = context.infer_shapes()
        if missing:
            raise CannotRun(f"the engine wants more inputs than {name!r}: {', '.join(missing)}{self._log.ending()}")
        self._host.reserve(images_u8.nbytes)
        address = self._device.reserve(images_u8.nbytes)
        check(context.set_tensor_address(name, address), f"the address of {name!r} was refused", self._log)
        for output in self._outputs:
            output.attach(context, self._log)
        self._shape = images_u8.shape
        if self._want_graph:
            self._capture(images_u8)

    def _capture(self, images_u8: npt.NDArray[np.uint8]) -> None:
        """TensorRT sets itself up in the first run after a change of shape, which must not be part of the graph."""
        if any(output.data_dependent for output in self._outputs):
            self.graph_refusal = "an output has a size that only the run determines"
            return
        self._host.view(images_u8.shape, np.uint8)[...] = images_u8
        self._enqueue()
        self._cuda.synchronize(self._stream)
        try:
            self._graph = self._cuda.capture(self._stream, self._enqueue)
        except CannotRun as error:
            self.graph_refusal = str(error)
            self._cuda.synchronize(self._stream)

    def _enqueue(self) -> None:
        context = require(self._context, "this engine is closed; open the file again")
        shape = require(self._shape, "no input shape is set")
        self._cuda.copy_in(self._host, self._device, int(np.prod(shape)), self._stream)
        check(context.execute_async_v3(self._stream), "the engine could not be executed", self._log)
        for output in self._outputs:
            output.enqueue_copy(self._stream)

    def _drop_graph(self) -> None:
        if self._graph:
            graph, self._graph = self._graph, 0
            self._cuda.call("cudaGraphExecDestroy", graph)


class _Output:
    """An output with its buffers; where only the run determines its size, TensorRT asks an allocator for memory."""

    def __init__(self, cuda: Cuda, trt_module: Any, port: Port) -> None:
        self.port = port
        self._module = trt_module
        self.device, self.host = DeviceBuffer(cuda), HostBuffer(cuda)
        self.data_dependent = False
        self._cuda = cuda
        self._shape: tuple[int, ...] = ()
        self._failure: CannotRun | None = None
        self._allocator: trt.IOutputAllocator | None = None

    def attach(self, context: trt.IExecutionContext, log: LogTail) -> None:
        """Give the context an address for the input shape that it has now, or an allocator."""
        name = self.port.plan_name
        shape = shape_of(context.get_tensor_shape(name))
        self.data_dependent = -1 in shape
        if self.data_dependent:
            self._allocator = self._allocator or _make_allocator(self._module, self)
            check(context.set_output_allocator(name, self._allocator), f"{name!r}: no allocator is taken", log)
            return
        self._shape = shape
        self.host.reserve(self._nbytes())
        address = self.device.reserve(self._nbytes())
        check(context.set_tensor_address(name, address), f"the address of {name!r} was refused", log)

    def enqueue_copy(self, stream: int) -> None:
        """Queue the copy to the host, where the size is known before the run."""
        if not self.data_dependent:
            self._cuda.copy_out(self.device.pointer, self.host, self._nbytes(), stream)

    def result(self, stream: int) -> npt.NDArray[Any]:
        """The output as an array of its own; the stream has been waited for."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self.data_dependent:
            self.host.reserve(self._nbytes())
            self._cuda.copy_out(self.device.pointer, self.host, self._nbytes(), stream)
            self._cuda.synchronize(stream)
        return np.array(self.host.view(self._shape, self.port.dtype))

    def reallocate(self, nbytes: int) -> int:
        """Address of so many bytes, 0 where there are none left: TensorRT takes no exception."""
        try:
            return self.device.reserve(nbytes)
        except CannotRun as error:
            self._failure = error
            return 0

    def notify_shape(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def _nbytes(self) -> int:
        return int(np.prod(self._shape, dtype=np.int64)) * self.port.dtype.itemsize


def _make_allocator(trt_module: Any, output: _Output) -> trt.IOutputAllocator:
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = trt_module

    class Allocator(trt.IOutputAllocator):
        """CUDA's allocations are aligned to 256 bytes, more than TensorRT asks for."""

        def __init__(self) -> None:
            super().__init__()

        def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
            return output.reallocate(size)

        def reallocate_output_async(self, tensor_name: str, memory: int, size: int, alignment: int, stream: int) -> int:
            return output.reallocate(size)

        def notify_shape(self, tensor_name: str, shape: trt.Dims) -> None:
            output.notify_shape(shape_of(shape))

    return Allocator()

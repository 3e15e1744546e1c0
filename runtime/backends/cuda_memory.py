"""The few calls of the CUDA runtime that this package needs, each checked; memory that knows its size."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.device import Device
from aweigh.runtime.errors import CannotRun


def import_cudart(install: str) -> Any:
    """The module ``cuda.bindings.runtime``. Raises CannotRun where cuda-bindings is not installed; ``install`` is what
    to do then."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise CannotRun(f"the module cuda.bindings is missing or does not load ({error}): {install}") from error
    return runtime


def device_index(device: str | Device) -> int:
    """The number in ``cuda`` (0) or ``cuda:N``.

    Raises:
        CannotRun: ``cpu``, which TensorRT does not run on.
        BadInput: no name of a device.
    """
    if str(device) == "cpu":
        raise CannotRun(
            "device 'cpu': a TensorRT engine runs on an NVIDIA GPU alone; give --device cuda, or open the ONNX "
            "file that it was built from"
        )
    return Device.parse(device, ("cuda",), "a TensorRT engine").number


class Cuda:
    """One device of the CUDA runtime. Every failing call raises CannotRun with CUDA's own message."""

    def __init__(self, cudart: Any, index: int) -> None:
        """``cudart`` is the module cuda.bindings.runtime. Raises CannotRun where there is no such device."""
        self.rt = cudart
        self.index = index
        try:
            count = int(self.call("cudaGetDeviceCount"))
        except CannotRun as error:
            raise CannotRun(f"{error}; is there an NVIDIA GPU and its driver? (nvidia-smi shows both)") from error
        if index >= count:
            known = f"there is only cuda:0 to cuda:{count - 1}" if count else "there is none"
            raise CannotRun(f"device 'cuda:{index}': {known} on this machine")
        self.use()

    def call(self, name: str, *arguments: Any) -> Any:
        """Call ``name``; what comes behind the error code of its result, alone where it is one value."""
        error, *values = getattr(self.rt, name)(*arguments)
        if error != self.rt.cudaError_t.cudaSuccess:
            raise CannotRun(f"device 'cuda:{self.index}': {name} failed: {self._words(error)}")
        return values[0] if len(values) == 1 else tuple(values)

    def _words(self, error: Any) -> str:
        _, words = self.rt.cudaGetErrorString(error)
        text = words.decode() if isinstance(words, bytes) else str(words)
        if error == self.rt.cudaError_t.cudaErrorMemoryAllocation:
            failure, free, total = self.rt.cudaMemGetInfo()
            if failure == self.rt.cudaError_t.cudaSuccess:
                text += f" ({free / 1e6:.0f} MB of {total / 1e6:.0f} MB are free)"
        return text

    def use(self) -> None:
        """Make it the device of the calling thread; CUDA keeps that per thread."""
        self.call("cudaSetDevice", self.index)

    def memory_bytes(self) -> tuple[int, int]:
        """(free, total) of the device, all processes together."""
        free, total = self.call("cudaMemGetInfo")
        return int(free), int(total)

    def stream(self) -> int:
        """A stream that does not wait for the default one; to be given to ``cudaStreamDestroy``."""
        return int(self.call("cudaStreamCreateWithFlags", self.rt.cudaStreamNonBlocking))

    def synchronize(self, stream: int) -> None:
        """Wait until all work of the stream is done."""
        self.call("cudaStreamSynchronize", stream)

    def elapsed_ms(self, stream: int, enqueue: Callable[[], None]) -> float:
        """Milliseconds between two events around what ``enqueue`` puts on the stream, by the device's own clock."""
        start, end = self.call("cudaEventCreate"), self.call("cudaEventCreate")
        try:
            self.call("cudaEventRecord", start, stream)
            enqueue()
            self.call("cudaEventRecord", end, stream)
            self.synchronize(stream)
            return float(self.call("cudaEventElapsedTime", start, end))
        finally:
            free_all(*(lambda event=event: self.call("cudaEventDestroy", event) for event in (start, end)))

    def copy_in(self, host: HostBuffer, device: DeviceBuffer, nbytes: int, stream: int) -> None:
        """Queue a copy of the first ``nbytes`` to the device."""
        kind = self.rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", device.pointer, host.pointer, nbytes, kind, stream)

    def copy_out(self, pointer: int, host: HostBuffer, nbytes: int, stream: int) -> None:
        """Queue a copy of ``nbytes`` from a device address."""
        kind = self.rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", host.pointer, pointer, nbytes, kind, stream)

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        """Record what ``enqueue`` puts on the stream as an executable graph, for ``cudaGraphLaunch``.

        Nothing of it is executed. Raises CannotRun where something in it cannot be recorded; the stream can be used
        as before then.
        """
        # Thread-local: what other threads do on their own streams meanwhile does not spoil the capture.
        self.call("cudaStreamBeginCapture", stream, self.rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            enqueue()
        except BaseException:
            # The capture has to be ended, and its graph is worth nothing.
            error, graph = self.rt.cudaStreamEndCapture(stream)
            if error == self.rt.cudaError_t.cudaSuccess:
                self.rt.cudaGraphDestroy(graph)
            self.rt.cudaGetLastError()
            raise
        graph = self.call("cudaStreamEndCapture", stream)
        try:
            # An object of cuda-bindings: its integer is the handle.
            return int(self.call("cudaGraphInstantiate", graph, 0))
        finally:
            self.call("cudaGraphDestroy", graph)


class DeviceBuffer:
    """Memory of the device that grows and never shrinks."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.pointer = 0
        self.nbytes = 0

    def reserve(self, nbytes: int) -> int:
        """The address of at least ``nbytes`` (and at least one), aligned to 256; the content is lost when it grows."""
        if max(nbytes, 1) > self.nbytes:
            self.free()
            self.pointer = int(self._cuda.call("cudaMalloc", max(nbytes, 1)))
            self.nbytes = max(nbytes, 1)
        return self.pointer

    def free(self) -> None:
        """Give it back; a second call does nothing."""
        if self.pointer:
            pointer, self.pointer, self.nbytes = self.pointer, 0, 0
            self._cuda.call("cudaFree", pointer)


class HostBuffer:
    """Page-locked memory, which alone is copied without a stop; grows and never shrinks."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.pointer = 0
        self.nbytes = 0

    def reserve(self, nbytes: int) -> None:
        """Make it hold at least ``nbytes``; the content is lost when it grows."""
        if max(nbytes, 1) > self.nbytes:
            self.free()
            self.pointer = int(self._cuda.call("cudaMallocHost", max(nbytes, 1)))
            self.nbytes = max(nbytes, 1)

    def view(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The buffer itself as an array, valid until it grows or is freed."""
        kind = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if nbytes > self.nbytes:
            raise ValueError(f"{nbytes} bytes of a buffer of {self.nbytes}")
        memory: npt.NDArray[np.uint8] = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(self.pointer))
        return memory.view(kind).reshape(shape)

    def free(self) -> None:
        """Give it back; a second call does nothing."""
        if self.pointer:
            pointer, self.pointer, self.nbytes = self.pointer, 0, 0
            self._cuda.call("cudaFreeHost", pointer)


def free_all(*steps: Callable[[], Any]) -> None:
    """Run every step, even where one before it fails: on the way out all memory is given back."""
    with contextlib.ExitStack() as stack:
        for step in reversed(steps):
            stack.callback(step)

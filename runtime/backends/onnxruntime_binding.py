"""Runs of ONNX Runtime on buffers of the device that are kept between calls (its IO binding)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.device import Device

GRAPH_ID = "gpu_graph_id"  # of a run's options: the recorded graph that it replays, counted from 1
NO_GRAPH = "-1"
_DTYPES = {"float": np.float32, "float16": np.float16, "int64": np.int64, "int32": np.int32, "bool": np.bool_}

Shape = tuple[int, ...]


class BoundRuns:
    """Runs of one session; calls from several threads may overlap, each on buffers of its own.

    With CUDA graphs they take turns: a graph reads and writes the buffers that it was recorded on.
    """

    def __init__(self, ort: Any, session: Any, device: Device, names: Sequence[str], graph: bool) -> None:
        """``ort`` is the module onnxruntime; ``names`` are the outputs."""
        ports = {port.name: port for port in session.get_outputs()}
        self._ort, self._session, self._device = ort, session, device
        self._outputs = [ports[name] for name in names]
        self._graph = graph
        self._free: list[_Buffers] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._graphs = 0

    def run(self, images_u8: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        """Outputs by name; arrays that nothing else writes to."""
        if self._graph:
            with self._turn:
                return self._run(images_u8)
        return self._run(images_u8)

    def _run(self, images_u8: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        buffers = self._take(images_u8.shape)
        found = buffers.run(images_u8)
        with self._lock:  # not after an error: what state they are in is unknown then
            self._free.append(buffers)
        return found

    def _take(self, shape: Shape) -> _Buffers:
        with self._lock:
            fitting = [buffers for buffers in self._free if buffers.shape == shape]
            # Recorded graphs keep theirs; other buffers are made anew for another shape, so that there are no more of
            # them than calls at once.
            stale = [] if self._graph else self._free
            found = next(iter([*fitting, *stale]), None)
            if found is not None:
                self._free.remove(found)
            if found is not None and found.shape == shape:
                return found
            if self._graph:
                self._graphs += 1
            graph_id = str(self._graphs) if self._graph else None
        del found
        return _Buffers(self._ort, self._session, self._device, self._outputs, shape, graph_id)


class _Buffers:
    """The buffers of one batch shape, bound to a session; one thread at a time uses them."""

    def __init__(
        self, ort: Any, session: Any, device: Device, outputs: Sequence[Any], shape: Shape, graph_id: str | None
    ) -> None:
        self.shape = shape
        self._session = session
        self._names = [port.name for port in outputs]
        place = (device.kind, device.number)
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.uint8, *place)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(INPUT_NAME, self._input)
        for port in outputs:
            sizes, dtype = (shape[0], *port.shape[1:]), _DTYPES.get(port.type.removeprefix("tensor(").rstrip(")"))
            if dtype is not None and all(isinstance(size, int) for size in sizes):
                value = ort.OrtValue.ortvalue_from_shape_and_type(list(sizes), dtype, *place)
                self._binding.bind_ortvalue_output(port.name, value)
            else:  # of a size that only the run knows
                self._binding.bind_output(port.name, *place)
        self._options = ort.RunOptions()
        if graph_id is not None:
            self._options.add_run_config_entry(GRAPH_ID, graph_id)

    def run(self, images_u8: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        self._input.update_inplace(images_u8)
        self._session.run_with_iobinding(self._binding, self._options)
        # On a CPU a value's array is the buffer itself, which the next run overwrites.
        values = self._binding.get_outputs()
        return {name: np.array(value.numpy()) for name, value in zip(self._names, values, strict=True)}

"""OnDevice: batches in the memory of the device, resized there to the same bytes as on the host."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from aweigh.runtime.backends.onnxruntime_session import (
    import_onnxruntime,
    open_session,
    providers_of,
    require_providers,
    session_options,
)
from aweigh.runtime.device import Device
from aweigh.runtime.device_images.image import DeviceImage
from aweigh.runtime.device_images.taps import Taps, taps_of
from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import Placement
from aweigh.runtime.network import DeviceBatch
from aweigh.runtime.spec import InputSpec, ModelSpec

_GRAPH = "resize.onnx"  # made by tests/support/resize_graph.py
_KEPT_TAPS = 64  # sizes of images


class OnDevice:
    """Resizes by a graph in ONNX Runtime (``resize.onnx``); one thread at a time uses it."""

    def __init__(self, device: Device, threads: int, spec: InputSpec) -> None:
        """
        Args:
            threads: of ONNX Runtime, on a CPU.
            spec: of the file.

        Raises:
            BadInput: a file that is resized otherwise than by ``linear``.
            CannotRun: ONNX Runtime or its provider for the device is missing.
        """
        if spec.interpolation != "linear":
            raise BadInput(
                f"decode_on device: this file's images are resized by {spec.interpolation!r}, on a device there is "
                "only 'linear'; take decode_on host"
            )
        self._ort = import_onnxruntime()
        self._place = (device.kind, device.number)
        providers = providers_of(device, tensorrt=False)
        require_providers(self._ort, providers, device)
        content = resources.files("aweigh.runtime.device_images").joinpath(_GRAPH).read_bytes()
        options = session_options(self._ort, threads)
        self._session = open_session(self._ort, _GRAPH, content, options, providers, device)
        self._taps = lru_cache(_KEPT_TAPS)(taps_of)

    def room(self, rows: int, input_hw: tuple[int, int]) -> DeviceBatch:
        """[rows, h, w, 3] on the device, zeros."""
        shape = (rows, *input_hw, 3)
        value = self._ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.uint8), *self._place)
        return DeviceBatch(shape, value.data_ptr(), value)

    def resize(self, room: DeviceBatch, row: int, image: DeviceImage, where: Placement, spec: InputSpec) -> None:
        """Write the network input of one image into a row, as ``preprocess.resize_into`` does."""
        height, width, _ = image.shape
        binding = self._session.io_binding()
        binding.bind_input("image_u8", *self._place, np.uint8, [height, image.stride], image.address)
        binding.bind_cpu_input("row_bytes", np.array([width * 3], np.int64))
        binding.bind_cpu_input("stored_hwc", np.array(image.shape, np.int64))
        rows, columns = self._taps(where, spec.pad_value)
        for name, taps, shape in (("row", rows, (-1, 1, 1)), ("column", columns, (-1, 1))):
            _bind_taps(binding, name, taps, shape)
        input_hw = room.shape[1:]
        address = room.address + row * int(np.prod(input_hw))
        binding.bind_output("input_u8", *self._place, np.uint8, list(input_hw), address)
        self._session.run_with_iobinding(binding)

    def filled(self, room: DeviceBatch, spec: ModelSpec, count: int) -> DeviceBatch:
        """The first rows, as many as the file takes at least; those behind the images are of images before them."""
        rows = max(count, spec.batch[0])
        return DeviceBatch((rows, *room.shape[1:]), room.address, room.owner)


def _bind_taps(binding: Any, name: str, taps: Taps, shape: tuple[int, ...]) -> None:
    binding.bind_cpu_input(f"{name}_first", taps.first)
    binding.bind_cpu_input(f"{name}_second", taps.second)
    binding.bind_cpu_input(f"{name}_near", taps.near.reshape(shape))
    binding.bind_cpu_input(f"{name}_far", taps.far.reshape(shape))
    binding.bind_cpu_input(f"{name}_padding", taps.padding.reshape(shape))

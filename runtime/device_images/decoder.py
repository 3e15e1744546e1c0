"""DeviceDecoder: JPEG files decoded on the device by nvImageCodec, which the user installs.

Only the CPU form of nvImageCodec has been run so far; see docs/status.md.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.backends.cuda_memory import Cuda, import_cudart
from aweigh.runtime.backends.onnxruntime_session import import_onnxruntime
from aweigh.runtime.device import Device
from aweigh.runtime.device_images.image import DeviceImage
from aweigh.runtime.errors import CannotRun, install_advice
from aweigh.runtime.images.reading import EncodedImage, ImageU8

# Colours between two samples are interpolated, as the host's decoder does.
_OPTIONS = ":fancy_upsampling=1"
_VERBOSITY = "PYNVIMGCODEC_VERBOSITY"
_GREY, _RGB, _BITS = 1, 3, 8


def import_nvimgcodec() -> Any:
    """The module. Raises CannotRun where it is not installed, or does not load."""
    os.environ.setdefault(_VERBOSITY, "0")  # what it cannot decode is our error, and no line on stderr
    try:
        return importlib.import_module("nvidia.nvimgcodec")
    except ImportError as error:
        raise CannotRun(
            f"decoding on the device needs nvImageCodec, which is missing or does not load ({error}): "
            f"{install_advice('nvimagecodec')}"
        ) from error


class DeviceDecoder:
    """Decodes for one device; calls from several threads may overlap, each with a decoder of the library's own.

    JPEGs of 8 bits in grey or RGB that EXIF does not turn are decoded on the device. What else there is, and what the
    library refuses, the host decodes, as ``read_image`` does and with its errors.

    Attributes:
        counts: images decoded so far, by ``device`` and ``host``.
    """

    def __init__(self, device: Device) -> None:
        """Raises CannotRun without the library, the device, or the CUDA runtime's Python bindings."""
        self.device = device
        self.counts = {"device": 0, "host": 0}
        self._codec = import_nvimgcodec()
        self._ort = import_onnxruntime()
        self._cuda = (
            None if device.kind == "cpu" else Cuda(import_cudart(install_advice("nvimagecodec")), device.number)
        )
        self._params = self._codec.DecodeParams(
            apply_exif_orientation=False, color_spec=self._codec.ColorSpec.SRGB, allow_any_depth=False
        )
        self._free: list[_Codec] = []
        self._lock = threading.Lock()
        self._free.append(self._make())  # so that an error comes before the first image

    def decode(self, encoded: EncodedImage) -> DeviceImage:
        """An image file on the device. Raises Undecodable as ``read_image`` does."""
        found = self._try(encoded)
        with self._lock:
            self.counts["host" if found is None else "device"] += 1
        return self.copied(encoded.decoded()) if found is None else found

    def close(self) -> None:
        """Free the decoders and their streams; no image that they made may be in use."""
        with self._lock:
            codecs, self._free = self._free, []
        streams = [codec.stream for codec in codecs]
        del codecs
        for stream in streams:
            if self._cuda is not None:
                self._cuda.call("cudaStreamDestroy", stream)

    def copied(self, image_rgb_u8: ImageU8) -> DeviceImage:
        """An image of the host on the device."""
        height, width, _ = image_rgb_u8.shape
        place = (self.device.kind, self.device.number)
        value = self._ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(image_rgb_u8), *place)
        # On a CPU the value may share the array's memory, which others may write to.
        return DeviceImage((height, width, 3), value.data_ptr(), width * 3, value, lambda: np.array(value.numpy()))

    def _try(self, encoded: EncodedImage) -> DeviceImage | None:
        header = encoded.header
        if header.format != "JPEG" or header.orientation != 1:
            return None
        codec = self._take()
        try:
            image = codec.decode(encoded.data)
        except RuntimeError:  # damaged, or of a kind that it lacks: the host says what is wrong, or reads it
            return None
        finally:
            with self._lock:
                self._free.append(codec)
        if image is None or tuple(image.shape) != (header.height, header.width, 3):
            return None
        on_cpu = self._cuda is None
        interface = image.__array_interface__ if on_cpu else image.__cuda_array_interface__
        stride = image.strides[0]
        if image.strides[1:] != (3, 1) or interface["typestr"] not in ("|u1", "<u1"):
            return None
        return DeviceImage(tuple(image.shape), interface["data"][0], stride, image, _copy_of(image))

    def _take(self) -> _Codec:
        with self._lock:
            if self._free:
                return self._free.pop()
        return self._make()

    def _make(self) -> _Codec:
        codec = self._codec
        on_cpu = self._cuda is None
        number = codec.NVIMGCODEC_DEVICE_CPU_ONLY if on_cpu else self.device.number
        backends = [codec.Backend(codec.BackendKind.CPU_ONLY)] if on_cpu else None  # on a GPU, whichever it has
        stream = 0 if self._cuda is None else self._cuda.stream()
        try:
            return _Codec(
                codec,
                codec.Decoder(device_id=number, max_num_cpu_threads=1, backends=backends, options=_OPTIONS),
                self._params,
                stream,
                (lambda: None) if self._cuda is None else self._wait_for(self._cuda, stream),
            )
        except RuntimeError as error:
            raise CannotRun(f"device '{self.device}': nvImageCodec could not start ({error})") from error

    @staticmethod
    def _wait_for(cuda: Cuda, stream: int) -> Callable[[], None]:
        def wait() -> None:
            cuda.use()
            cuda.synchronize(stream)

        return wait


@dataclass(frozen=True)
class _Codec:
    """A decoder of the library with a stream of its own; one thread at a time uses it."""

    module: Any
    decoder: Any
    params: Any
    stream: int
    wait: Callable[[], None]

    def decode(self, data: bytes) -> Any:
        """The library's image, complete; None where it cannot or should not decode it. Raises RuntimeError likewise."""
        source = self.module.CodeStream(data)
        if source.num_channels not in (_GREY, _RGB) or source.precision not in (0, _BITS):
            return None
        image = self.decoder.decode(source, params=self.params, cuda_stream=self.stream)
        self.wait()
        return image


def _copy_of(image: Any) -> Callable[[], npt.NDArray[np.uint8]]:
    return lambda: np.array(image.cpu())

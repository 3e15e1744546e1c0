"""DevicePixels: everything between an image file and the network's input, on the device."""

from __future__ import annotations

from typing import Literal, get_args

from aweigh.runtime.backends.base import Backend
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.device_images.decoder import DeviceDecoder
from aweigh.runtime.device_images.image import DeviceImage
from aweigh.runtime.device_images.preparation import OnDevice
from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.reading import Source, encoded_image, read_image
from aweigh.runtime.network import DeviceBatch, Outputs

DecodeOn = Literal["host", "device"]
_PLAIN = ("CUDAExecutionProvider", "CPUExecutionProvider")


def device_pixels(decode_on: DecodeOn, backend: Backend) -> DevicePixels | None:
    """None for ``host``. Raises BadInput for another word, and as ``DevicePixels``."""
    if decode_on not in get_args(DecodeOn):
        raise BadInput(f"decode_on {decode_on!r}: expected {' or '.join(get_args(DecodeOn))}")
    return DevicePixels(backend) if decode_on == "device" else None


class DevicePixels:
    """Reads images to the device of a back end, prepares them and runs the network there.

    Attributes:
        decoder: decodes, and counts where.
        preparation: resizes; for ``flow.batch.BatchBuilder``.
    """

    def __init__(self, backend: Backend) -> None:
        """
        Raises:
            BadInput: a back end other than ONNX Runtime on a CPU or with its CUDA provider; a CUDA graph, which reads
                from the memory that it was recorded on; a file that is resized otherwise than by ``linear``.
            CannotRun: nvImageCodec or the CUDA runtime's Python bindings are missing.
        """
        if not isinstance(backend, OnnxRuntimeBackend) or backend.providers[0] not in _PLAIN:
            raise BadInput(
                f"decode_on device: of the back ends, onnxruntime alone reads images from the device, got "
                f"{backend.providers[0]}; take decode_on host"
            )
        if backend.binds:
            raise BadInput(
                "decode_on device: ONNX Runtime options binding and graph keep buffers of their own, which the images "
                "are not in; take decode_on host, or leave them out"
            )
        self._backend = backend
        self.preparation = OnDevice(backend.device, backend.threads, backend.spec.input)
        self.decoder = DeviceDecoder(backend.device)

    def read(self, source: Source, name: str | None) -> DeviceImage:
        """An image on the device. Raises BadInput as ``images.reading.read_image``."""
        encoded = encoded_image(source, name=name)
        if encoded is None:  # in memory already
            return self.decoder.copied(read_image(source, name=name))
        return self.decoder.decode(encoded)

    def run(self, batch: DeviceBatch) -> Outputs:
        """The graph's outputs. Raises as ``Backend.infer``."""
        return self._backend.infer_on_device(batch)

    def close(self) -> None:
        """Free the decoders."""
        self.decoder.close()

"""OpenOptions: how model files are opened, as a value that verbs and jobs pass on."""

from __future__ import annotations

import os
from dataclasses import dataclass

from aweigh.runtime.detector import Detector
from aweigh.runtime.device_images.pixels import DecodeOn


@dataclass(frozen=True)
class OpenOptions:
    """The arguments of ``Detector``, all but the file.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``; with OpenVINO ``gpu`` or ``gpu:N``.
        threads: of the network; None takes the cores that this process may use.
        backend: the library that runs the file; ``auto`` goes by the kind of file.
        precision: the precision to insist on; None takes what the file says.
        self_test: whether the file's golden images are run first and compared.
        ort_options: of ONNX Runtime, joined by ``+``.
        decode_on: ``host``, or ``device`` for images that are decoded and resized in its memory.
    """

    device: str = "cpu"
    threads: int | None = None
    backend: str = "auto"
    precision: str | None = None
    self_test: bool = True
    ort_options: str = ""
    decode_on: DecodeOn = "host"

    def open(self, model: str | os.PathLike[str]) -> Detector:
        """Open an exported file. Raises BadInput, CannotRun and CheckFailed as ``Detector`` does.

        Example:
            >>> with OpenOptions(threads=1).open(model_path) as detector:
            ...     detector.backend.threads
            1
        """
        return Detector(
            model,
            self.device,
            self.threads,
            backend=self.backend,
            precision=self.precision,
            self_test=self.self_test,
            ort_options=self.ort_options,
            decode_on=self.decode_on,
        )

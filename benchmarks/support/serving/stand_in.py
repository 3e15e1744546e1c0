"""A server whose network waits instead of computing: what is measured is the server, not how many cores a machine has.

    python benchmarks/support/serving/stand_in.py --model MODEL.onnx --network-ms 20 --batch 8 --queue 64

Decoding, batching and HTTP are real, the detections those of a grey picture. Run by serving.py as a process; prints the
address as JSON and serves until SIGTERM. Its application is what replicas.py deploys.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.applications import Starlette

from aweigh.runtime.detector import Detector
from aweigh.serve.http.app import build_app
from aweigh.serve.models.opening import OpenModel
from aweigh.serve.server import serve
from aweigh.serve.settings import Limits, ModelSource, Settings


class StandIn(Detector):
    """A detector whose network takes the same time for every batch, and detects in every image what it does in grey."""

    def __init__(self, path: str, network_ms: float) -> None:
        super().__init__(path, threads=1)
        grey = np.full((1, *self.spec.input.size_hw, 3), self.spec.input.pad_value, np.uint8)
        self._grey_outputs = super().raw(grey)
        self._network_s = network_ms / 1e3

    def raw(self, images_u8: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        """The outputs of the grey image, once for each image."""
        time.sleep(self._network_s)
        return {name: np.repeat(value, len(images_u8), axis=0) for name, value in self._grey_outputs.items()}


def build_with(network_ms: float) -> Callable[[Settings], Starlette]:
    """Builds the application, its networks replaced by ``StandIn``."""

    def open_stand_in(source: ModelSource, settings: Settings) -> OpenModel:
        return OpenModel(StandIn(source.path, network_ms), version="stand-in")

    return functools.partial(build_app, opener=open_stand_in)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True, metavar="FILE")
    parser.add_argument("--network-ms", type=float, default=20.0, help="per batch (default %(default)s)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--queue", type=int, default=64)
    options = parser.parse_args(arguments)
    settings = Settings(
        (ModelSource("m", str(options.model)),),
        threads=1,
        limits=Limits(batch=options.batch, queue_items=options.queue),
    )
    serve(
        settings,
        port=0,
        grpc_port=None,
        on_listening=lambda where, _: print(json.dumps({"http": where.http}), flush=True),
        build=build_with(options.network_ms),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

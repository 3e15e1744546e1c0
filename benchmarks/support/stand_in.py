"""A server whose network waits instead of computing: what is measured is the server, not how many cores a machine has.

    python benchmarks/support/stand_in.py --model MODEL.onnx --network-ms 20 --batch 8 --queue 64

Decoding, batching and HTTP are real, the detections those of a grey picture. Run by serving.py as a process; prints the
address as JSON and serves until SIGTERM. Its application is what replicas.py deploys.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI

from aweigh.runtime.backends.base import Backend
from aweigh.serve.http.app import build_app
from aweigh.serve.server import serve
from aweigh.serve.services import Services
from aweigh.serve.settings import Limits, ModelSource, Settings


class Waiting(Backend):
    """Takes the same time for every batch and finds in every picture what the real network finds in a grey one."""

    def __init__(self, real: Backend, network_ms: float) -> None:
        for name in ("spec", "golden", "providers", "precision", "layers", "threads"):
            setattr(self, name, getattr(real, name))
        grey = np.full((1, *real.spec.input.size_hw, 3), real.spec.input.pad_value, np.uint8)
        self._one, self._real, self._network_s = real.infer(grey), real, network_ms / 1e3

    def _infer(self, images_u8: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        time.sleep(self._network_s)
        return {name: np.repeat(value, len(images_u8), axis=0) for name, value in self._one.items()}

    def close(self) -> None:
        self._real.close()


def build_with(network_ms: float) -> Callable[[Settings], FastAPI]:
    """The application, its networks replaced by ``Waiting``."""

    def build(settings: Settings) -> FastAPI:
        app = build_app(settings)
        services: Services = app.state.services
        for model in services.store:
            model.detector.backend = Waiting(model.detector.backend, network_ms)
        return app

    return build


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

"""The two sides of serving.py: a server as a process with its clients, and the same work without one."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.detector import Detector
from aweigh.runtime.machine.facts import available_cores
from aweigh.serve.decoding.images import prepare_image
from support.artifact import Artifact

LOAD = Path(__file__).parent / "load.py"
STAND_IN = Path(__file__).parent / "stand_in.py"
MAX_PIXELS = 50_000_000
QUEUE = 64


def repeated(function: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of single calls, after three that do not count."""
    for _ in range(3):
        function()
    taken: list[float] = []
    end_s = time.perf_counter() + seconds
    while (begin_s := time.perf_counter()) < end_s:
        function()
        taken.append((time.perf_counter() - begin_s) * 1e3)
    return taken


class Direct:
    """The same work without a server: one picture, batches, and batches whose pictures are decoded meanwhile."""

    def __init__(self, detector: Detector, picture: bytes, batch: int) -> None:
        self._detector, self._picture, self._batch = detector, picture, batch

    def _prepare(self) -> npt.NDArray[np.uint8]:
        return prepare_image(self._picture, self._detector.spec.input, MAX_PIXELS).image_u8

    def measure(self, name: str, seconds: float) -> list[float]:
        """Milliseconds of single calls of one kind of work; all but ``one picture`` are of whole batches."""
        if name == "one picture":
            return repeated(lambda: self._detector(self._picture), seconds)
        if name == "network":
            pictures = np.stack([self._prepare()] * self._batch)
            return repeated(lambda: self._detector.raw(pictures), seconds)
        with ThreadPoolExecutor(available_cores()) as decoders:
            waiting = [decoders.submit(self._prepare) for _ in range(self._batch)]

            def decoded_batch() -> None:
                nonlocal waiting
                ready = np.stack([future.result() for future in waiting])
                waiting = [decoders.submit(self._prepare) for _ in range(self._batch)]
                self._detector.raw(ready)

            return repeated(decoded_batch, seconds)

    def pictures_of(self, name: str) -> int:
        """How many pictures one call goes through."""
        return 1 if name == "one picture" else self._batch


def requests(detector: Detector, picture: bytes) -> dict[str, bytes]:
    """Whole HTTP requests: a picture file, and its prepared pixels as a binary tensor."""

    def post(path: str, kind: str, body: bytes, extra: str = "") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return f"{head}{extra}\r\n".encode() + body

    image_u8 = prepare_image(picture, detector.spec.input, MAX_PIXELS).image_u8
    shape = [1, *image_u8.shape]
    tensor = {
        "name": "images",
        "datatype": "UINT8",
        "shape": shape,
        "parameters": {"binary_data_size": image_u8.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = f"Inference-Header-Content-Length: {len(head)}\r\n"
    return {
        "jpeg": post("/v1/models/m/detect", "image/jpeg", picture),
        "tensor": post("/v2/models/m/infer", "application/octet-stream", head + image_u8.tobytes(), length),
    }


class Server:
    """A process that prints where it listens, until ``close``."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.url = json.loads(self._process.stdout.readline())["http"]

    @classmethod
    def of(cls, artifact: Artifact, batch: int) -> Server:
        """``aweigh serve``."""
        settings = [word for name, value in artifact.settings.items() for word in (f"--{name}", str(value))]
        return cls(
            *("-P", "-m", "aweigh.runtime.cli", "serve", "--model", f"m={artifact.path}", "--json", *settings),
            *("--port", "0", "--grpc-port", "-1", "--max-batch", str(batch), "--queue", str(QUEUE)),
        )

    @classmethod
    def waiting(cls, artifact: Artifact, batch: int, network_ms: float) -> Server:
        """The same application with benchmarks/support/serving/stand_in.py's network."""
        limits = ("--batch", str(batch), "--queue", str(QUEUE))
        return cls(str(STAND_IN), "--model", str(artifact.path), "--network-ms", str(network_ms), *limits)

    def resident_mb(self) -> float:
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return next(float(li.split()[1]) / 1e6 for li in lines if li.startswith("process_resident_memory_bytes "))

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=60)


def load_on(url: str, request: bytes, clients: int, seconds: float) -> dict[str, Any]:
    """``latencies_ms`` of the accepted requests, their number ``per_s``, and the number of each of the ``statuses``."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    with tempfile.NamedTemporaryFile() as file:
        file.write(request)
        file.flush()
        command = [sys.executable, str(LOAD), host, port, str(clients), str(seconds), file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found

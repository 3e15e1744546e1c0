"""What serving costs beside the Detector itself: latency, throughput, overload, memory.

    python benchmarks/serving.py --model MODEL.onnx --source PICTURE.jpg [--rounds 6] [--overload-network-ms 20]

One server on loopback, bounded load, the load from a process of its own on the same cores. Each round measures, without
a request to the server, the Detector on one picture, the network on batches, and the same with decoding in threads
beside it; then each load on the server. Ratios and differences are to the direct figures of the same round. Overload
comes last: more clients than the queue has places, the resident memory after each round. Its network is a stand-in that
waits, so that what counts is how the server shares the cores between those it refuses and those it lets in.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from artifact import Artifact, add_settings, parse_artifact
from paired import paired_difference, paired_ratio
from report import Report, Row
from script import make_parser, public_command, publish, run

from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.machine import available_cores
from aweigh.serve.pictures import prepare_picture
from aweigh.train.progress import track

LOAD = Path(__file__).parent / "serving_load.py"
STAND_IN = Path(__file__).parent / "stand_in.py"
MAX_PIXELS = 50_000_000
QUEUE = 64
# The direct rate that each form of request is held against.
CEILING = {"jpeg": "decoding and network", "tensor": "network"}


def percentiles(latencies_ms: Sequence[float]) -> dict[str, float | None]:
    """None where nothing was answered."""
    if not latencies_ms:
        return {"p50_ms": None, "p95_ms": None, "p99_ms": None}
    return {f"p{q}_ms": float(np.percentile(latencies_ms, q)) for q in (50, 95, 99)}


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
        return prepare_picture(self._picture, self._detector.spec.input, MAX_PIXELS).image_u8

    def measure(self, seconds: float) -> dict[str, list[float]]:
        """Milliseconds of single calls; all but the first are of whole batches."""
        pictures = np.stack([self._prepare()] * self._batch)
        with ThreadPoolExecutor(available_cores()) as decoders:
            waiting = [decoders.submit(self._prepare) for _ in range(self._batch)]

            def decoded_batch() -> None:
                nonlocal waiting
                ready = np.stack([future.result() for future in waiting])
                waiting = [decoders.submit(self._prepare) for _ in range(self._batch)]
                self._detector.raw(ready)

            return {
                "one picture": repeated(lambda: self._detector(self._picture), seconds),
                "network": repeated(lambda: self._detector.raw(pictures), seconds),
                "decoding and network": repeated(decoded_batch, seconds),
            }


def requests(detector: Detector, picture: bytes) -> dict[str, bytes]:
    """Whole HTTP requests: a picture file, and its prepared pixels as a binary tensor."""

    def post(path: str, kind: str, body: bytes, extra: str = "") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return f"{head}{extra}\r\n".encode() + body

    image_u8 = prepare_picture(picture, detector.spec.input, MAX_PIXELS).image_u8
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
        """The same application with benchmarks/stand_in.py's network."""
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
    """``latencies_ms`` of the accepted requests, and the number of each of the ``statuses``."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    with tempfile.NamedTemporaryFile() as file:
        file.write(request)
        file.flush()
        command = [sys.executable, str(LOAD), host, port, str(clients), str(seconds), file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Loads:
    """What was measured under one form of request and number of clients, round by round."""

    def __init__(self, form: str, clients: int) -> None:
        self.form, self.clients = form, clients
        self.latencies_ms: list[float] = []
        self.medians_ms: list[float] = []
        self.per_s: list[float] = []
        self.statuses: Counter[str] = Counter()

    def add(self, found: dict[str, Any], seconds: float) -> None:
        self.latencies_ms += found["latencies_ms"]
        self.medians_ms.append(statistics.median(found["latencies_ms"] or [float("inf")]))
        self.per_s.append(len(found["latencies_ms"]) / seconds)
        self.statuses.update(found["statuses"])

    def row(self) -> Row:
        return {
            "load": self.form,
            "clients": self.clients,
            **percentiles(self.latencies_ms),
            "per_s": statistics.median(self.per_s),
            "statuses": dict(self.statuses),
        }


def measure(artifact: Artifact, options: argparse.Namespace) -> list[Row]:
    """Rows of the direct figures and of each load."""
    picture, seconds = options.source.read_bytes(), options.seconds
    loads = [Loads(form, clients) for form in CEILING for clients in options.clients]
    direct: dict[str, list[list[float]]] = {}
    with artifact.open() as detector:
        alone, about = Direct(detector, picture, options.batch), artifact.about(detector)
        bodies = requests(detector, picture)
        server = Server.of(artifact, options.batch)
        try:
            for _ in track(range(options.rounds), "rounds", options.rounds):
                for name, taken_ms in alone.measure(seconds).items():
                    direct.setdefault(name, []).append(taken_ms)
                for load in loads:
                    load.add(load_on(server.url, bodies[load.form], load.clients, seconds), seconds)
        finally:
            server.close()
    rates = {
        name: [(1 if name == "one picture" else options.batch) * 1e3 / statistics.mean(taken) for taken in rounds]
        for name, rounds in direct.items()
    }
    rows: list[Row] = [
        {
            **about,
            "load": f"direct: {name}",
            **percentiles(list(chain.from_iterable(direct[name]))),
            "per_s": statistics.median(rate),
        }
        for name, rate in rates.items()
    ]
    for load in loads:
        row = about | load.row() | {"share": paired_ratio(load.per_s, rates[CEILING[load.form]]).to_dict()}
        if (load.form, load.clients) == ("jpeg", 1):
            medians = [statistics.median(taken) for taken in direct["one picture"]]
            row["added_p50_ms"] = paired_difference(load.medians_ms, medians).to_dict()
        rows.append(row)
    return rows


def overload(artifact: Artifact, options: argparse.Namespace) -> Row:
    """Far more clients than the queue has places."""
    picture, load = options.source.read_bytes(), Loads("jpeg, overload", options.overload)
    with artifact.open() as detector:
        body, about = requests(detector, picture)["jpeg"], artifact.about(detector)
    server = Server.waiting(artifact, options.batch, options.overload_network_ms)
    try:
        resident_mb = [server.resident_mb()]
        for _ in track(range(options.overload_rounds), "overload", options.overload_rounds):
            load.add(load_on(server.url, body, options.overload, options.seconds), options.seconds)
            resident_mb.append(server.resident_mb())
    finally:
        server.close()
    waits = {"queue": QUEUE, "network_ms": options.overload_network_ms, "resident_mb": resident_mb}
    return about | load.row() | waits


def missed(rows: Sequence[Row], options: argparse.Namespace) -> list[str]:
    """The limits that were not kept, in words."""
    found = []
    for row in rows:
        name = f"{row['load']}, {row.get('clients')} clients"
        least = options.at_least.get(row.get("clients"))
        if least is not None and "share" in row and row["share"]["median"] < least:
            found.append(f"{name}: {row['share']['median']:.3f} of the direct rate, at least {least} was asked for")
        added = row.get("added_p50_ms")
        if added is not None and options.limit_added_ms is not None and added["median"] > options.limit_added_ms:
            found.append(f"{name}: {added['median']:.2f} ms over the Detector, limit {options.limit_added_ms}")
        if "queue" in row:
            if set(row["statuses"]) - {"200", "503"}:
                found.append(f"{name}: statuses {row['statuses']}, expected 200 and 503 alone")
            if options.limit_p99_ms is not None and not (row["p99_ms"] or float("inf")) <= options.limit_p99_ms:
                found.append(f"{name}: p99 {row['p99_ms']} ms, limit {options.limit_p99_ms}")
        elif set(row.get("statuses", {})) - {"200"}:
            found.append(f"{name}: statuses {row['statuses']}, expected 200 alone")
    return found


def _shares(text: str) -> dict[int, float]:
    return {int(clients): float(share) for clients, _, share in (piece.partition("=") for piece in text.split(","))}


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--model", required=True, metavar="FILE")
    parser.add_argument("--source", type=Path, required=True, help="a JPEG file")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each figure (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--overload", type=int, default=200, help="clients; 0 leaves it out (default %(default)s)")
    parser.add_argument("--overload-network-ms", type=float, default=20.0, help="per batch (default %(default)s)")
    parser.add_argument("--overload-rounds", type=int, default=6)
    parser.add_argument("--at-least", type=_shares, default={}, metavar="8=0.8,32=0.92", help="of the direct rate")
    parser.add_argument("--limit-added-ms", type=float, metavar="MS", help="one client's median over the Detector's")
    parser.add_argument("--limit-p99-ms", type=float, metavar="MS", help="of what is accepted under overload")
    add_settings(parser)
    options = parser.parse_args(arguments)
    if min(options.rounds, options.batch, options.overload_rounds, *options.clients) < 1 or options.seconds <= 0:
        raise BadInput("--rounds, --batch, --clients, --overload-rounds, --seconds: expected more than 0")
    options.threads = options.threads or available_cores()
    rows = measure(parse_artifact(options.model, options), options)
    if options.overload:
        rows.append(overload(parse_artifact(options.model, options), options))
    what = f"serving on loopback, load on the same cores, batches up to {options.batch}; direct: without a server"
    publish(Report.here("serving", what, rows, public_command("serving.py", arguments)), options)
    failures = missed(rows, options)
    for line in failures:
        print(f"serving.py: {line}", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(run("serving.py", main))

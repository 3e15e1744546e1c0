"""What serving costs beside the Detector itself: latency, throughput, overload, memory.

    python benchmarks/serving.py --model MODEL.onnx --source PICTURE.jpg --out FILE

One server on loopback, bounded load (``--seconds`` per row), the load from a process of its own on the same cores. In
the same run, without a server: the Detector on one picture, the network on batches of ``--batch``, and the same with
decoding in threads beside it. Ratios are to those. Repeat on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.detector import Detector
from aweigh.runtime.inspection import file_sha256
from aweigh.runtime.machine import available_cores, describe
from aweigh.serve.pictures import prepare_picture
from aweigh.train.run_dir import commit, versions

LOAD = Path(__file__).parent / "serving_load.py"
MAX_PIXELS = 50_000_000


def percentiles(latencies_ms: list[float]) -> dict[str, float | None]:
    if not latencies_ms:
        return {"p50_ms": None, "p95_ms": None, "p99_ms": None}
    return {f"p{q}_ms": round(float(np.percentile(latencies_ms, q)), 2) for q in (50, 95, 99)}


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


def direct(model: Path, picture: bytes, batch: int, threads: int, seconds: float) -> dict[str, Any]:
    """The same work without a server: one picture, batches, and batches whose pictures are decoded meanwhile."""
    with Detector(model, threads=threads) as detector, ThreadPoolExecutor(available_cores()) as decoders:

        def prepare() -> np.ndarray[Any, Any]:
            return prepare_picture(picture, detector.spec.input, MAX_PIXELS).image_u8

        pictures = np.stack([prepare()] * batch)
        waiting = [decoders.submit(prepare) for _ in range(batch)]

        def decoded_batch() -> None:
            nonlocal waiting
            ready = np.stack([future.result() for future in waiting])
            waiting = [decoders.submit(prepare) for _ in range(batch)]
            detector.raw(ready)

        one = repeated(lambda: detector(picture), seconds)
        network = repeated(lambda: detector.raw(pictures), seconds)
        together = repeated(decoded_batch, seconds)
    return {
        "detector": percentiles(one),
        "network_batch": {**percentiles(network), "per_s": round(batch * 1e3 * len(network) / sum(network), 1)},
        "decoding_and_network": {
            **percentiles(together),
            "per_s": round(batch * 1e3 * len(together) / sum(together), 1),
        },
    }


def requests(model: Path, picture: bytes) -> dict[str, bytes]:
    """Whole HTTP requests: a picture file, and its prepared pixels as a binary tensor."""

    def post(path: str, kind: str, body: bytes, extra: str = "") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return f"{head}{extra}\r\n".encode() + body

    with Detector(model) as detector:
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
    """``aweigh serve`` as a process."""

    def __init__(self, model: Path, flags: list[str]) -> None:
        command = [sys.executable, "-P", "-m", "aweigh.runtime.cli", "serve", "--model", f"m={model}", "--json"]
        command += ["--port", "0", "--grpc-port", "-1", *flags]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        self.url = json.loads(self._process.stdout.readline())["http"]

    def load(self, request: bytes, clients: int, seconds: float) -> dict[str, Any]:
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        with tempfile.NamedTemporaryFile() as file:
            file.write(request)
            file.flush()
            command = [sys.executable, str(LOAD), host, port, str(clients), str(seconds), file.name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        result = json.loads(done.stdout)
        taken = result["latencies_ms"]
        return {
            "clients": clients,
            **percentiles(taken),
            "per_s": round(len(taken) / seconds, 1),
            "statuses": result["statuses"],
        }

    def resident_mb(self) -> float:
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return next(float(li.split()[1]) / 1e6 for li in lines if li.startswith("process_resident_memory_bytes "))

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=60)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    picture = options.source.read_bytes()
    alone = direct(options.model, picture, options.batch, options.threads, options.seconds)
    ceilings = {"jpeg": alone["decoding_and_network"]["per_s"], "tensor": alone["network_batch"]["per_s"]}
    rows: list[dict[str, Any]] = []
    flags = ["--threads", str(options.threads), "--max-batch", str(options.batch)]
    server = Server(options.model, [*flags, "--queue", "64"])
    try:
        bodies = requests(options.model, picture)
        for form, request in bodies.items():
            for clients in options.clients:
                row = {"form": form, **server.load(request, clients, options.seconds)}
                row["share_of_direct"] = round(row["per_s"] / ceilings[form], 3)
                if form == "jpeg" and clients == 1:
                    row["added_p50_ms"] = round(row["p50_ms"] - alone["detector"]["p50_ms"], 2)
                rows.append(row)
        before_mb = server.resident_mb()
        overload = []
        for _ in range(options.overload_rounds):
            overload.append(server.load(bodies["jpeg"], options.overload, options.seconds))
            overload[-1]["resident_mb"] = round(server.resident_mb(), 1)
    finally:
        server.close()
    return {
        "direct": alone,
        "rows": rows,
        "overload": {"queue": 64, "resident_before_mb": round(before_mb, 1), "rounds": overload},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--source", type=Path, required=True, help="a JPEG file")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--overload", type=int, default=200)
    parser.add_argument("--overload-rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each row, and of each direct figure")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = {
        "what": f"batch {options.batch}, {options.threads} threads, {options.seconds:g} s a row, load on these cores",
        "date": date.today().isoformat(),
        "command": f"python benchmarks/serving.py --model {options.model.name} --source {options.source.name}",
        "machine": describe(),
        "versions": versions(),
        "commit": commit(),
        "model_sha256": file_sha256(options.model),
        **measure(options),
    }
    for name, figures in report["direct"].items():
        print(f"{name:22} {figures}")
    for row in [*report["rows"], *report["overload"]["rounds"]]:
        print(row)
    if options.out:
        with atomic_write(options.out) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Requests of all kinds at one time, good and bad: no answer but those documented, and nothing grows."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import tritonclient.grpc
from hostile import encoded, lying_jpegs, many_scans, mutations, small_picture
from server_process import Server, jpeg, until
from tritonclient.utils import InferenceServerException

# More of them, for a run by hand: AWEIGH_REQUESTS=20000.
REQUESTS = int(os.environ.get("AWEIGH_REQUESTS", "400"))
CLIENTS = 8
INFER = "/v2/models/red/infer"
DETECT = "/v1/models/red/detect"
_SAMPLES = 10


def tensor(shape: list[int], size: int) -> bytes:
    return json.dumps(
        {"inputs": [{"name": "images", "datatype": "UINT8", "shape": shape, "data": [7] * size}]}
    ).encode()


def kinds(picture: npt.NDArray[np.uint8]) -> list[tuple[str, str, dict[str, str], bytes]]:
    """Method, path, headers and body of one request of each kind."""
    octets, plain = {"Content-Type": "application/octet-stream"}, jpeg(picture)
    files = [plain, encoded(small_picture(), "PNG"), encoded(small_picture(), "WEBP"), plain[:-20], b"", b"text"]
    files += [many_scans(120), *lying_jpegs().values(), *mutations(40)]
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + plain + b"\r\n--x--\r\n"
    whole = 64 * 96 * 3
    return [
        *(("POST", DETECT, octets, data) for data in files),
        *(("POST", DETECT + query, octets, plain) for query in ("?conf=0.9", "?score=best", "?score=2", "?other=1")),
        ("POST", DETECT, {"Content-Type": "multipart/form-data; boundary=x"}, form),
        ("POST", "/v1/models/red/detect-batch", {"Content-Type": "multipart/form-data; boundary=x"}, form * 2),
        ("POST", INFER, {"Content-Type": "application/json"}, tensor([1, 64, 96, 3], whole)),
        ("POST", INFER, {"Content-Type": "application/json"}, tensor([1, 64, 96, 3], 5)),
        ("POST", INFER, {"Content-Type": "application/json"}, b'{"inputs": [' * 500),
        ("POST", INFER, {**octets, "Inference-Header-Content-Length": "999999"}, tensor([1, 64, 96, 3], whole)),
        ("POST", "/v1/models/other/detect", octets, plain),
        ("DELETE", DETECT, {}, b""),
        *(("GET", path, {}, b"") for path in ("/", "/metrics", "/v1/models", "/v2", "/v2/health/ready", "/none")),
    ]


def hang_up(server: Server, chance: random.Random) -> None:
    """In the middle of a request, or of its answer."""
    head = f"POST {DETECT} HTTP/1.1\r\nHost: {server.address[0]}\r\nContent-Length: 5000\r\n\r\n".encode()
    with socket.create_connection(server.address) as connection:
        connection.sendall((head + bytes(5000))[: chance.randrange(1, len(head) + 5001)])


def call(client: tritonclient.grpc.InferenceServerClient, good: bool) -> str:
    """The status of a gRPC call; wrong ones have a row too few."""
    rows = np.zeros((1, 64 if good else 63, 96, 3), np.uint8)
    given = tritonclient.grpc.InferInput("images", list(rows.shape), "UINT8")
    given.set_data_from_numpy(rows)
    try:
        client.infer("red", [given], client_timeout=30)
    except InferenceServerException as error:
        return str(error.status())
    return str(grpc.StatusCode.OK)


def held(server: Server) -> tuple[float, int]:
    """Resident megabytes of the server's own process, and its open descriptors that are no connections."""
    folder = Path(f"/proc/{server.process.pid}/fd")
    links = [os.readlink(path) for path in folder.iterdir() if path.is_symlink()]
    return server.metric("process_resident_memory_bytes") / 1e6, sum("socket:" not in link for link in links)


def sockets(server: Server) -> int:
    folder = Path(f"/proc/{server.process.pid}/fd")
    count = 0
    for path in folder.iterdir():
        try:
            count += "socket:" in os.readlink(path)
        except FileNotFoundError:  # closed meanwhile
            continue
    return count


def test_requests_of_all_kinds(start: Callable[..., Server], red_model: Path, picture: npt.NDArray[np.uint8]) -> None:
    server, requests = start("--model", str(red_model)), kinds(picture)
    statuses, calls, lock = Counter[int](), Counter[str](), threading.Lock()
    at_rest = sockets(server)

    def ask(seed: int, count: int) -> None:
        chance = random.Random(seed)
        with server.client() as client, tritonclient.grpc.InferenceServerClient(server.grpc) as rpc:
            for _ in range(count):
                if (turn := chance.random()) < 0.05:
                    hang_up(server, chance)
                    continue
                if turn < 0.15:
                    code = call(rpc, good=turn < 0.12)
                    with lock:
                        calls[code] += 1
                    continue
                method, path, headers, body = chance.choice(requests)
                answer = client.request(method, path, headers=headers, content=body)
                with lock:
                    statuses[answer.status_code] += 1

    memory_mb, descriptors = [], []
    with ThreadPoolExecutor(CLIENTS) as pool:
        for part in range(_SAMPLES):
            each = [REQUESTS // _SAMPLES // CLIENTS] * CLIENTS
            list(pool.map(ask, range(part * CLIENTS, (part + 1) * CLIENTS), each))
            until(lambda: sockets(server) <= at_rest, 30)
            for sampled, value in zip((memory_mb, descriptors), held(server), strict=True):
                sampled.append(value)
    print(f"{REQUESTS} requests: {dict(statuses)}, gRPC {dict(calls)}; MB {memory_mb}; descriptors {descriptors}")
    assert set(statuses) <= {200, 400, 404, 405, 413, 415, 422, 503, 504}
    assert statuses[200] > REQUESTS / 10
    assert set(calls) == {str(grpc.StatusCode.OK), str(grpc.StatusCode.INVALID_ARGUMENT)}
    # The first samples see pools fill; from there on nothing may be kept per request.
    assert max(descriptors[_SAMPLES // 2 :]) <= max(descriptors[: _SAMPLES // 2])
    assert max(memory_mb[_SAMPLES // 2 :]) < max(memory_mb[: _SAMPLES // 2]) + 16
    with server.client() as client:
        assert client.post(DETECT, headers={"Content-Type": "image/jpeg"}, content=jpeg(picture)).status_code == 200

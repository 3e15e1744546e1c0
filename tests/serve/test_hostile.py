"""Clients that lie, dawdle or flood: each is refused with its status, and the server goes on."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_process import Server, jpeg, until

BODY_LIMIT = 1 << 20
DETECT = "/v1/models/red/detect"
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def server(start: Callable[..., Server], red_model: Path) -> Server:
    """With limits small enough to be met."""
    return start("--model", str(red_model), "--max-body-mb", "1", "--max-megapixels", "1", "--body-timeout", "1")


@pytest.fixture(autouse=True)
def still_well(server: Server, picture: npt.NDArray[np.uint8]) -> Iterator[None]:
    """After each test the server has answered nothing by 5xx, holds nothing, and detects."""
    yield
    with server.client() as client:
        assert client.post(DETECT, content=jpeg(picture), headers=JPEG).status_code == 200
        failed = [line for line in client.get("/metrics").text.splitlines() if 'status="5' in line]
    assert failed == []
    until(lambda: server.metric("aweigh_queue_requests") == 0 and server.metric("aweigh_queue_bytes") == 0)


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert (content["status"], content["error"]) == (status, content["detail"])
    return str(content["detail"])


def exchange(server: Server, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Send parts over a bare socket and read until the server closes, or has answered and falls silent."""
    with socket.create_connection(server.address, timeout=10) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:  # the server has heard enough
                break
            time.sleep(pause_s)
        received = b""
        connection.settimeout(5)
        try:
            while chunk := connection.recv(65536):
                received += chunk
                connection.settimeout(0.3)
        except OSError:  # silence, or a reset after the answer
            pass
        return received


def request(headers: str, body: bytes = b"", target: str = DETECT) -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n".encode("latin-1") + body


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (png(50_000, 50_000), "image/png", 413, "50000x50000 pixels, the limit is 1000000"),
        (b"GIF89a" + struct.pack("<HH", 65535, 65535), "image/gif", 413, "65535x65535"),
        (b"hello", "image/jpeg", 415, "not an image"),
        (b"", "image/jpeg", 415, "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 415, "not an image"),
        (b"http://169.254.169.254/latest", "text/plain", 415, "expected"),
        (b'{"url": "file:///etc/passwd"}', "application/json", 415, "expected"),
        (b"x" * (BODY_LIMIT + 1), "image/jpeg", 413, "the limit is 1048576"),
    ],
    ids=["bomb", "bomb-gif", "text", "empty", "svg", "url", "json", "large"],
)
def test_bodies(client: httpx.Client, body: bytes, kind: str, status: int, words: str) -> None:
    assert words in problem(client.post(DETECT, content=body, headers={"Content-Type": kind}), status)


def test_damaged_pictures(client: httpx.Client, picture: npt.NDArray[np.uint8]) -> None:
    whole = jpeg(picture)
    assert "truncated" in problem(client.post(DETECT, content=whole[: len(whole) // 2], headers=JPEG), 422)
    bomb_in_form = {"file": ("x.png", png(5000, 5000))}
    assert "5000x5000" in problem(client.post(DETECT, files=bomb_in_form), 413)
    mixed = [("file", ("a.jpg", whole)), ("file", ("b.jpg", b"text"))]
    assert "not an image" in problem(client.post("/v1/models/red/detect-batch", files=mixed), 415)
    assert "more than 16" in problem(
        client.post("/v1/models/red/detect-batch", files=[("file", ("a.jpg", whole))] * 17), 413
    )


def test_compressed_bodies_are_not_inflated(client: httpx.Client) -> None:
    headers = {**JPEG, "Content-Encoding": "gzip"}
    assert "not compressed" in problem(client.post(DETECT, content=gzip.compress(bytes(100_000)), headers=headers), 415)


def test_a_body_without_length_is_measured_as_it_comes(
    client: httpx.Client, server: Server, picture: npt.NDArray[np.uint8]
) -> None:
    whole = jpeg(picture)
    chunks = iter([whole[:100], whole[100:]])
    assert client.post(DETECT, content=chunks, headers=JPEG).status_code == 200
    endless = (b"x" * 65536 for _ in range(40))
    assert "more than 1048576 bytes" in problem(client.post(DETECT, content=endless, headers=JPEG), 413)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ("Content-Type: image/jpeg\r\nContent-Length: 9999999999999999999", b"", 413),
        ("Content-Type: image/jpeg\r\nContent-Length: 99999999999999999999", b"", 400),
        ("Host: elsewhere", b"", 400),
        ("Content-Type: image/jpeg\r\nTransfer-Encoding: chunked", b"1\r\nx\r\n0\r\nX-Long: " + b"y" * 1_000_000, 400),
        ("Content-Type: image/jpeg\r\nTransfer-Encoding: chunked", b"1;" + b"y" * 1_000_000, 400),
        ("Content-Type: image/jpeg\r\nContent-Length: -1", b"", 400),
        ("Content-Type: image/jpeg\r\nContent-Length: 5\r\nContent-Length: 6", b"hello", 400),
        ("Content-Type: image/jpeg\r\nTransfer-Encoding: chunked", b"zz\r\nhello\r\n0\r\n\r\n", 400),
        ("Content-Type: image/jpeg\r\nTransfer-Encoding: gzip", b"hello", 400),
        ("\r\n".join(f"X-{i}: y" for i in range(10_000)), b"", 431),
        ("X-Long: " + "y" * 1_000_000, b"", 400),
    ],
    ids=[
        *("length", "no-length", "two-hosts", "trailer", "chunk-extension"),
        *("negative", "two-lengths", "chunk-size", "encoding", "10000-headers", "long-header"),
    ],
)
def test_headers(server: Server, headers: str, body: bytes, status: int) -> None:
    assert exchange(server, request(headers, body)).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_request_without_host(server: Server) -> None:
    head = b"GET /v1/models HTTP/1.1\r\n\r\n"
    assert exchange(server, head).startswith(b"HTTP/1.1 400 ")


def test_small_chunks_and_trailers_are_no_headers(server: Server, picture: npt.NDArray[np.uint8]) -> None:
    """More bytes between the pieces than headers may have, and a trailer that tries to be a header."""
    whole = jpeg(picture) + bytes(40_000)
    chunks = b"".join(b"10;note=x\r\n" + whole[i : i + 16] + b"\r\n" for i in range(0, len(whole) // 16 * 16, 16))
    assert len(chunks) - len(whole) > 32_768
    head = request("Content-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\nConnection: close")
    answer = exchange(server, head + chunks + b"0\r\nAuthorization: Bearer x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_body_that_dawdles(server: Server) -> None:
    """One byte at a time is cut off after the time for a body, and keeps nobody out meanwhile."""
    head = request("Content-Type: image/jpeg\r\nContent-Length: 1000")
    answer = exchange(server, head, *[b"x"] * 8, pause_s=0.2)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"not complete within 1 s" in answer
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(("begun", "requests_before"), [(b"", 0), (b"POST ", 0), (b"POST ", 1)])
def test_headers_that_dawdle(server: Server, begun: bytes, requests_before: int) -> None:
    """A connection that never completes its first request, or begins another and never completes that, is closed."""
    with socket.create_connection(server.address, timeout=10) as connection:
        for _ in range(requests_before):
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(begun)
        connection.settimeout(8)
        assert connection.recv(65536) == b""


def test_clients_that_do_not_read_are_dropped(start: Callable[..., Server], red_model: Path) -> None:
    """Each asks for a large file twenty times and reads nothing."""
    server = start("--model", str(red_model), "--body-timeout", "1", "--grpc-port", "-1")
    ask = b"GET /static/swagger/swagger_bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
    open_files = server.metric("process_open_fds")
    connections = [socket.create_connection(server.address) for _ in range(20)]
    try:
        for connection in connections:
            connection.sendall(ask)
        until(lambda: server.metric("process_open_fds") >= open_files + 20)
        until(lambda: server.metric("process_open_fds") <= open_files + 1)
        with server.client() as client:  # one that reads slowly, but reads, is served to the end
            with client.stream("GET", "/static/swagger/swagger_bundle.js") as answer:
                size = 0
                for chunk in answer.iter_raw(200_000):
                    size += len(chunk)
                    time.sleep(0.3)
            assert size == int(answer.headers["content-length"]) > 1_000_000
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(
    "second", [b"no HTTP\r\n\r\n", request("Content-Length: -1"), request("Transfer-Encoding: chunked", b"zz\r\n")]
)
def test_a_refusal_does_not_overtake_the_answer_before_it(
    server: Server, picture: npt.NDArray[np.uint8], second: bytes
) -> None:
    body = jpeg(picture)
    good = request(f"Content-Type: image/jpeg\r\nContent-Length: {len(body)}", body)
    received = exchange(server, good + second)
    first, refusal = received.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200 ")
    assert b'"detections"' in first
    assert refusal.startswith(b"400 ")
    assert b"problem+json" in refusal


def test_many_dawdlers_keep_nobody_out(server: Server, picture: npt.NDArray[np.uint8]) -> None:
    head = request("Content-Type: image/jpeg\r\nContent-Length: 1000")
    connections = [socket.create_connection(server.address) for _ in range(100)]
    try:
        for connection in connections:
            connection.sendall(head + b"x" * 500)
        with server.client() as client:
            assert client.post(DETECT, content=jpeg(picture), headers=JPEG).status_code == 200
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(
    ("shape", "size", "tail", "words"),
    [
        ([1, 64, 96, 3], 64 * 96 * 3, 64 * 96 * 3 - 1, "bytes follow"),
        ([1, 64, 96, 3], 10, 10, "takes 18432 bytes, got 10"),
        ([9999, 9999, 9999, 3], 10, 10, "takes"),
        ([9, 64, 96, 3], 9 * 64 * 96 * 3, 9 * 64 * 96 * 3, "the limit is 8"),
        ([1, 32, 96, 3], 32 * 96 * 3, 32 * 96 * 3, "takes 96x64"),
    ],
)
def test_tensors_whose_shape_lies(client: httpx.Client, shape: list[int], size: int, tail: int, words: str) -> None:
    tensor = {"name": "images", "datatype": "UINT8", "shape": shape, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    answer = client.post("/v2/models/red/infer", content=head + bytes(tail), headers=headers)
    assert words in problem(answer, 400)


@pytest.mark.parametrize("value", ["0", "-1", "x", "9" * 30, "1e3", "999"])
def test_header_lengths_that_lie(client: httpx.Client, value: str) -> None:
    headers = {"Inference-Header-Content-Length": value, "Content-Type": "application/octet-stream"}
    answer = client.post("/v2/models/red/infer", content=b"{}", headers=headers)
    assert answer.status_code in (400, 422)


def test_much_json_is_refused_before_it_is_parsed(client: httpx.Client) -> None:
    answer = client.post("/v2/models/red/infer", json={"x": "y" * BODY_LIMIT})
    assert "1048576" in problem(answer, 413)


def test_wrong_methods_and_paths(client: httpx.Client) -> None:
    assert client.get(DETECT).headers["allow"] == "POST"
    problem(client.get(DETECT), 405)
    problem(client.get("/v1/models/blue"), 404)
    problem(client.get("/v2/models/red/versions/0"), 404)
    problem(client.get("/static/demo/../app.py"), 404)
    problem(client.get("/static/demo/%2e%2e/app.py"), 404)
    problem(client.get("/static/demo/..%2f..%2fsettings.py"), 404)


def test_websockets_are_not_spoken(server: Server) -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA=="
    assert exchange(server, request(upgrade, target="/v2")).startswith(b"HTTP/1.1 405 ")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=400),
    prefix=st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"BM", b"GIF89a", b"II*\0"]
    ),
    path=st.sampled_from([DETECT, "/v1/models/red/detect-batch", "/v2/models/red/infer", "/v2/repository/index"]),
    kind=st.sampled_from(
        ["image/png", "multipart/form-data; boundary=b", "application/octet-stream", "application/json"]
    ),
)
def test_any_body_to_any_parser(client: httpx.Client, body: bytes, prefix: bytes, path: str, kind: str) -> None:
    answer = client.post(path, content=prefix + body, headers={"Content-Type": kind})
    assert answer.status_code in ((200,) if path.endswith("index") else (400, 413, 415, 422))


def test_a_flood_of_bombs_leaves_memory_as_it_was(server: Server) -> None:
    def resident() -> float:
        return server.metric("process_resident_memory_bytes")

    def flood() -> None:
        with server.client() as client:
            for _ in range(10):
                client.post(DETECT, content=png(30_000, 30_000), headers={"Content-Type": "image/png"})
                client.post(DETECT, content=b"x" * (2 * BODY_LIMIT), headers=JPEG)

    flood()
    before = resident()
    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert resident() - before < 40e6

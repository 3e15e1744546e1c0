"""Overload, hanging up, reloading, stopping."""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc
import tritonclient.http
from server_process import Server, jpeg, until, write_model
from tritonclient.utils import InferenceServerException

from aweigh.runtime.cli.main import main
from aweigh.serve.server import bind

JPEG = {"Content-Type": "image/jpeg"}
# More of them, for a run by hand: AWEIGH_RELOADS=500.
RELOADS = int(os.environ.get("AWEIGH_RELOADS", "60"))
SLOW = "/v1/models/slow/detect"


@pytest.fixture(scope="module")
def slow(start: Callable[..., Server], slow_model: Path) -> Server:
    return start("--model", str(slow_model), "--max-batch", "2", "--queue", "16")


def test_overload_is_answered_by_200_and_503_alone(slow: Server, picture: npt.NDArray[np.uint8]) -> None:
    body = jpeg(picture)

    def ask(_: int) -> httpx.Response:
        with slow.client() as client:
            return client.post(SLOW, content=body, headers=JPEG)

    with concurrent.futures.ThreadPoolExecutor(48) as pool:
        answers = list(pool.map(ask, range(96)))
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 503}
    assert statuses[200] >= 16
    for answer in answers:
        if answer.status_code == 503:
            assert answer.headers["retry-after"] == "1"
            assert "try again" in answer.json()["error"]
        else:
            assert len(answer.json()["detections"]) == 2
    assert slow.metric("aweigh_queue_requests") == slow.metric("aweigh_queue_bytes") == 0


def test_a_full_queue_over_grpc(slow: Server) -> None:
    tensor = tritonclient.grpc.InferInput("images", [1, 64, 96, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 64, 96, 3), np.uint8))
    outcomes: list[str] = []
    with tritonclient.grpc.InferenceServerClient(slow.grpc) as client:

        def done(result: object, error: InferenceServerException | None) -> None:
            outcomes.append("ok" if error is None else str(error.status()))

        for _ in range(60):
            client.async_infer("slow", [tensor], done)
        until(lambda: len(outcomes) == 60, 60)
    assert set(outcomes) == {"ok", "StatusCode.RESOURCE_EXHAUSTED"}


def test_who_hangs_up_is_not_computed(slow: Server, picture: npt.NDArray[np.uint8]) -> None:
    """Sixteen in the queue leave, in four rounds of fifteen: of sixty, all but those in a batch already are dropped."""
    body = jpeg(picture)
    head = f"POST {SLOW} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    computed, dropped = slow.metric("aweigh_batch_pictures_sum"), slow.metric("aweigh_abandoned_total")
    for _ in range(4):
        connections = [socket.create_connection(slow.address) for _ in range(15)]
        for connection in connections:
            connection.sendall(head.encode() + body)
        until(lambda: slow.metric("aweigh_queue_requests") >= 11)
        for connection in connections:
            connection.close()
        until(lambda: slow.metric("aweigh_queue_requests") == 0)
    with slow.client() as client:
        assert client.post(SLOW, content=body, headers=JPEG).status_code == 200
    assert slow.metric("aweigh_batch_pictures_sum") - computed - 1 <= 12
    assert (
        slow.metric("aweigh_abandoned_total") - dropped + slow.metric("aweigh_batch_pictures_sum") - computed - 1 <= 60
    )
    assert slow.metric("aweigh_queue_bytes") == 0


def test_a_grpc_call_past_its_deadline_is_not_computed(slow: Server) -> None:
    tensor = tritonclient.grpc.InferInput("images", [1, 64, 96, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 64, 96, 3), np.uint8))
    with (
        tritonclient.grpc.InferenceServerClient(slow.grpc) as client,
        concurrent.futures.ThreadPoolExecutor(16) as pool,
    ):
        durations_s = []
        for _ in range(3):
            begin_s = time.monotonic()
            client.infer("slow", [tensor])
            durations_s.append(time.monotonic() - begin_s)
        before = slow.metric("aweigh_batch_pictures_sum")
        # Eight batches of two; time for two of them.
        wait_s = 2 * min(durations_s)
        calls = [pool.submit(client.infer, "slow", [tensor], client_timeout=wait_s) for _ in range(16)]
        codes = {call.exception().status() for call in calls if isinstance(call.exception(), InferenceServerException)}
    assert codes == {str(grpc.StatusCode.DEADLINE_EXCEEDED)}
    until(lambda: slow.metric("aweigh_queue_requests") == 0)
    assert slow.metric("aweigh_batch_pictures_sum") - before <= 8


def test_a_deadline_is_kept(start: Callable[..., Server], slow_model: Path, picture: npt.NDArray[np.uint8]) -> None:
    server = start("--model", str(slow_model), "--deadline", "0.001", "--grpc-port", "-1")
    with server.client() as client:
        answer = client.post(SLOW, content=jpeg(picture), headers=JPEG)
        assert answer.status_code == 504
        assert "not answered within 0.001 s" in answer.json()["error"]
    assert server.metric("aweigh_errors_total") == 1


def test_rewriting_the_file_in_place_while_it_is_reloaded(
    start: Callable[..., Server], tmp_path: Path, picture: npt.NDArray[np.uint8]
) -> None:
    """Loaded whole, or refused and the old one stays; the version is of bytes that were whole."""
    path = write_model(tmp_path / "m.onnx")
    other = write_model(tmp_path / "other.onnx", post={"score_threshold": 0.25})
    contents = [path.read_bytes(), other.read_bytes()]
    server, stop, statuses = start("--model", str(path)), threading.Event(), Counter[int]()

    def rewrite() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            with path.open("wb") as file:
                for begin in range(0, len(contents[turn % 2]), 2048):
                    file.write(contents[turn % 2][begin : begin + 2048])
                    file.flush()
            time.sleep(0.004)

    thread = threading.Thread(target=rewrite)
    thread.start()
    versions = set()
    try:
        with server.client() as client:
            for _ in range(RELOADS):
                statuses[client.post("/v2/repository/models/m/load").status_code] += 1
                assert client.post("/v1/models/m/detect", content=jpeg(picture), headers=JPEG).status_code == 200
                versions.add(client.get("/v1/models/m").json()["version"])
    finally:
        stop.set()
        thread.join()
    assert set(statuses) == {200, 422}
    assert versions <= {hashlib.sha256(content).hexdigest()[:12] for content in contents}


def test_a_pipe_in_the_place_of_the_file(start: Callable[..., Server], tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    server = start("--model", str(path))
    path.unlink()
    os.mkfifo(path)
    with server.client() as client:
        for _ in range(2):  # the second is not told that a reload is under way
            answer = client.post("/v2/repository/models/m/load")
            assert answer.status_code == 422
            assert "this is a pipe" in answer.json()["error"]


def test_reloading(start: Callable[..., Server], tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """The file on disk takes over if it can be served; the old one goes on if not, and loses no request either way."""
    path = write_model(tmp_path / "m.onnx")
    server = start("--model", str(path))
    body, stop, statuses = jpeg(picture), threading.Event(), Counter[int]()

    def ask() -> None:
        with server.client() as client:
            while not stop.is_set():
                statuses[client.post("/v1/models/m/detect", content=body, headers=JPEG).status_code] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with server.client() as client, tritonclient.http.InferenceServerClient(server.http[7:]) as triton:
            old = client.get("/v1/models/m").json()
            path.write_bytes(b"no model")
            answer = client.post("/v2/repository/models/m/load")
            assert answer.status_code == 422
            assert "the old one stays" in answer.json()["error"]
            assert client.get("/v1/models/m").json() == old

            write_model(tmp_path / "new.onnx", post={"score_threshold": 0.25})
            shutil.copyfile(tmp_path / "new.onnx", path)
            triton.load_model("m")
            new = client.get("/v1/models/m").json()
            assert new["version"] != old["version"]
            assert new["score_threshold"] == 0.25
            assert client.get(f"/v2/models/m/versions/{old['version']}/ready").status_code == 404
            with tritonclient.grpc.InferenceServerClient(server.grpc) as over_grpc:
                over_grpc.load_model("m")
                with pytest.raises(InferenceServerException, match="NOT_FOUND"):
                    over_grpc.load_model("other")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
    versions = [line for line in metrics_text(server).splitlines() if line.startswith("aweigh_model{")]
    assert len(versions) == 1
    assert new["version"] in versions[0]


def metrics_text(server: Server) -> str:
    with server.client() as client:
        return client.get("/metrics").text


def test_stopping_under_load_loses_nothing(
    start: Callable[..., Server], slow_model: Path, picture: npt.NDArray[np.uint8]
) -> None:
    """Every request that was taken is answered; what comes later finds the door closed."""
    server = start("--model", str(slow_model), "--max-batch", "2")
    body = jpeg(picture)
    outcomes: Counter[str] = Counter()
    tensor = tritonclient.grpc.InferInput("images", [1, 64, 96, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 64, 96, 3), np.uint8))

    def over_http() -> None:
        with server.client() as client:
            while True:
                try:
                    answer = client.post(SLOW, content=body, headers=JPEG)
                except httpx.ConnectError:
                    return
                except httpx.TransportError as error:
                    outcomes[f"lost: {error!r}"] += 1
                    return
                outcomes[str(answer.status_code)] += 1

    def over_grpc() -> None:
        with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
            while True:
                try:
                    client.infer("slow", [tensor])
                except InferenceServerException as error:
                    outcomes[f"grpc {error.status()}"] += 1
                    return
                outcomes["200"] += 1

    threads = [threading.Thread(target=target) for target in [over_http] * 8 + [over_grpc] * 4]
    for thread in threads:
        thread.start()
    until(lambda: outcomes["200"] >= 12, 60)
    assert server.stop() == 0
    for thread in threads:
        thread.join()
    # A gRPC client learns of the closed door by its call's failing to begin.
    assert set(outcomes) == {"200", "grpc StatusCode.UNAVAILABLE"}
    assert outcomes["grpc StatusCode.UNAVAILABLE"] == 4


HANGING = """
import functools, sys, time
from aweigh.runtime.detector import Detector
from aweigh.serve import Limits, Settings, build_app, serve
from aweigh.serve.models.opening import OpenModel

class Hanging(Detector):
    def raw(self, images_u8):
        time.sleep(120)

def open_hanging(source, settings):
    return OpenModel(Hanging(source.path), "hangs")

serve(
    Settings.of(f"m={sys.argv[1]}", limits=Limits(drain_s=2.0, deadline_s=0.5)),
    port=0,
    on_listening=lambda where, services: print(where.http, flush=True),
    build=functools.partial(build_app, opener=open_hanging),
)
"""


def test_a_network_that_hangs_does_not_keep_the_server_from_stopping(
    red_model: Path, picture: npt.NDArray[np.uint8]
) -> None:
    command = [sys.executable, "-P", "-c", HANGING, str(red_model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host, port = process.stdout.readline().strip().removeprefix("http://").rsplit(":", 1)
        body = jpeg(picture)
        head = "POST /v1/models/m/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            url = f"http://{host}:{port}/v2/health/ready"
            until(lambda: httpx.get(url, trust_env=False, verify=False).status_code == 503)
            assert "model 'm' has been computing" in httpx.get(url, trust_env=False, verify=False).json()["detail"]
            begin_s = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        assert time.monotonic() - begin_s < 6
        assert process.returncode == 1
        assert "not stopped within 2 s" in errors


def test_a_taken_port_is_said(server: Server, red_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = str(server.address[1])
    assert main(["serve", "--model", str(red_model), "--port", port, "--grpc-port", "-1"]) == 3
    assert "another program uses it, choose another --port" in capsys.readouterr().err
    grpc_port = server.grpc.rsplit(":", 1)[1]
    assert main(["serve", "--model", str(red_model), "--port", "0", "--grpc-port", grpc_port]) == 3
    assert "choose another --grpc-port" in capsys.readouterr().err


def test_answers_do_not_wait_for_a_delayed_acknowledgement() -> None:
    """Nagle's algorithm is off on every connection."""

    async def connected() -> int:
        seen: asyncio.Queue[int] = asyncio.Queue()

        async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await seen.put(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = bind("127.0.0.1", 0)
        async with await asyncio.start_server(accept, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            option = await seen.get()
            writer.close()
            await writer.wait_closed()
        return option

    assert asyncio.run(connected()) != 0

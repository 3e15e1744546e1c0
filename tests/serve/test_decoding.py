"""Image files that break decoders, sent to a server that has good clients meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from hostile import many_scans, mutations
from server_process import Server, jpeg, until

DETECT = "/v1/models/red/detect"
JPEG = {"Content-Type": "image/jpeg"}
# More of them, for a run by hand: AWEIGH_HOSTILE_FILES=2000.
FILES = int(os.environ.get("AWEIGH_HOSTILE_FILES", "300"))
GOOD_CLIENTS = 8


def decoders(server: Server) -> dict[int, float]:
    """Resident megabytes of each decoding process."""
    command = ["ps", "--ppid", str(server.process.pid), "-o", "pid=,rss=,args="]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    found = (line.split(maxsplit=2) for line in lines if "decoding.worker" in line)
    return {int(pid): int(kilobytes) / 1024 for pid, kilobytes, _ in found}


def post(client: httpx.Client, data: bytes) -> httpx.Response:
    return client.post(DETECT, content=data, headers={"Content-Type": "application/octet-stream"})


def segv_png() -> list[bytes]:
    """The animation that ended a server, where the test material is at hand."""
    path = Path(os.environ.get("AWEIGH_TEST_DATA", "none")) / "cases" / "hostile" / "segv.png"
    return [path.read_bytes()] * 3 if path.is_file() else []


def test_good_clients_beside_hostile_files(
    start: Callable[..., Server], red_model: Path, picture: npt.NDArray[np.uint8]
) -> None:
    """Every good request is answered, memory stays below its bound, and the server stops in its time."""
    server = start("--model", str(red_model), "--grpc-port", "-1", "--deadline", "30")
    good, bad, stop = Counter[int](), Counter[int](), threading.Event()
    largest_mb = [0.0, 0.0]

    def ask() -> None:
        with server.client() as client:
            while not stop.is_set():
                good[client.post(DETECT, content=jpeg(picture), headers=JPEG).status_code] += 1

    def attack(files: list[bytes]) -> None:
        with server.client() as client:
            for data in files:
                bad[post(client, data).status_code] += 1
                largest_mb[0] = max(largest_mb[0], server.metric("process_resident_memory_bytes") / 1e6)
                largest_mb[1] = max(largest_mb[1], *decoders(server).values(), 0.0)

    files = segv_png() + list(mutations(FILES))
    clients = [threading.Thread(target=ask) for _ in range(GOOD_CLIENTS)]
    for thread in clients:
        thread.start()
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(attack, [files[::2], files[1::2]]))
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    replaced = server.metric("aweigh_decoders_replaced_total")
    until(lambda: server.metric("aweigh_queue_bytes") == 0)
    begin_s = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    stopped_s = time.monotonic() - begin_s
    print(
        f"{len(files)} files {dict(bad)}, good {dict(good)}, decoders replaced {replaced:.0f}, largest MB: "
        f"server {largest_mb[0]:.0f}, a decoder {largest_mb[1]:.0f}; stopped in {stopped_s:.1f} s"
    )
    assert set(good) == {200}
    assert set(bad) <= {200, 400, 413, 415, 422}
    assert bad[422] > 0
    assert largest_mb[0] < 500
    assert largest_mb[1] < 20 * 50 + 4 * 16 + 64 + 100
    assert stopped_s < 10
    assert not re.search("libpng|Corrupt JPEG|TIFF", server.log.read_text())  # what decoders print of damaged files


def test_a_decoder_that_is_killed_costs_one_request(
    start: Callable[..., Server], red_model: Path, picture: npt.NDArray[np.uint8]
) -> None:
    server = start("--model", str(red_model), "--grpc-port", "-1", "--decoders", "1", "--decode-timeout", "120")
    with server.client() as client, ThreadPoolExecutor(1) as pool:
        (statuses, (busy,)) = Counter[int](), decoders(server)
        os.kill(busy, signal.SIGSTOP)  # however slow or fast the machine is, it holds the image when it is killed
        answer = pool.submit(post, client, jpeg(picture))
        until(lambda: server.metric("aweigh_queue_bytes") > 0)
        time.sleep(1)  # the body is there; it is handed on within milliseconds
        os.kill(busy, signal.SIGKILL)
        assert answer.result().status_code == 422
        assert "its decoder ended on it: it was killed" in answer.result().json()["detail"]
        for _ in range(6):
            statuses[client.post(DETECT, content=jpeg(picture), headers=JPEG).status_code] += 1
        assert statuses == {200: 6}
        until(lambda: len(decoders(server)) == 1)
        assert busy not in decoders(server)
    assert server.metric("aweigh_decoders_replaced_total") == 1


def test_an_image_that_takes_too_long_costs_one_request(start: Callable[..., Server], red_model: Path) -> None:
    """A progressive JPEG within every limit but time."""
    server = start("--model", str(red_model), "--grpc-port", "-1", "--decode-timeout", "0.2")
    with server.client() as client:
        answer = post(client, many_scans(90, side=6000))
        assert answer.status_code == 422
        assert "not decoded within 0.2 s" in answer.json()["detail"]
        assert post(client, many_scans(1)).status_code == 200


def test_readiness_tells_that_decoding_hangs(
    start: Callable[..., Server], red_model: Path, picture: npt.NDArray[np.uint8]
) -> None:
    server = start("--model", str(red_model), "--deadline", "1", "--decoders", "1", "--decode-timeout", "60")
    with server.client() as client:
        assert client.get("/v2/health/ready").status_code == 200
        assert post(client, jpeg(picture)).status_code == 200

        def ask() -> httpx.Response:
            with server.client() as own:
                return post(own, jpeg(picture))

        # The replacements hang too: the server's own limit on one image does not free them.
        hold = threading.Event()

        def keep_stopped() -> None:
            while not hold.is_set():
                send(signal.SIGSTOP)
                time.sleep(0.01)

        def send(number: signal.Signals) -> None:
            for pid in decoders(server):
                with contextlib.suppress(ProcessLookupError):  # it has been replaced meanwhile
                    os.kill(pid, number)

        send(signal.SIGSTOP)
        thread = threading.Thread(target=keep_stopped)
        thread.start()
        try:
            with ThreadPoolExecutor(3) as pool:
                answers = [pool.submit(ask) for _ in range(3)]
                until(lambda: client.get("/v2/health/ready").status_code == 503)
                assert "no decoder has come free" in client.get("/v2/health/ready").json()["detail"]
                assert client.get("/v2/models/red/ready").status_code == 503
                assert {answer.result().status_code for answer in answers} <= {422, 504}
        finally:
            hold.set()
            thread.join()
            send(signal.SIGCONT)
        until(lambda: post(client, jpeg(picture)).status_code == 200)
        assert client.get("/v2/health/ready").status_code == 200


def test_stopping_while_decoders_hang(
    start: Callable[..., Server], red_model: Path, picture: npt.NDArray[np.uint8]
) -> None:
    """Their requests are answered when their time is over, and the server ends as it should."""
    server = start("--model", str(red_model), "--grpc-port", "-1", "--decode-timeout", "2")
    for pid in decoders(server):
        os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as pool:

        def ask() -> httpx.Response:
            with server.client() as client:
                return post(client, jpeg(picture))

        answers = [pool.submit(ask) for _ in range(2)]
        time.sleep(0.5)
        begin_s = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begin_s < 10
        assert {answer.result().status_code for answer in answers} == {422}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_decoders_end_with_the_server(number: signal.Signals, start: Callable[..., Server], red_model: Path) -> None:
    server = start("--model", str(red_model), "--grpc-port", "-1")
    workers = decoders(server)
    assert len(workers) >= 2
    for pid in workers:
        assert not re.search(r"/[^ ]*torch", Path(f"/proc/{pid}/maps").read_text())
    server.process.send_signal(number)
    code = server.process.wait(20)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
        server.process.returncode = 0  # as the fixture expects of servers that tests leave

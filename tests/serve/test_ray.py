"""Two replicas under Ray Serve. Ray is large and no part of the development environment: pip install '.[ray]'."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from server_process import Server, jpeg, until

from aweigh.runtime.cli.main import main
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.serve.cli.serve import parse_replicas
from aweigh.serve.ray_engine import Replicas

JPEG = {"Content-Type": "image/jpeg"}
DETECT = "/v1/models/slow/detect"


def test_replicas() -> None:
    assert parse_replicas("3") == Replicas(3, 3)
    assert parse_replicas("1-4") == Replicas(1, 4)
    for wrong in ("0", "4-1", "x", "1-", "-1", ""):
        with pytest.raises(BadInput, match="--replicas"):
            parse_replicas(wrong)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--replicas", "2"], "give --engine ray"),
        (["--engine", "ray", "--port", "0"], "give the port"),
        (["--engine", "ray", "--replicas", "2-1"], "expected N or LEAST-MOST"),
        (["--engine", "ray", "--model", "other=none.onnx"], "none.onnx"),
    ],
)
def test_flags_that_make_no_sense(
    flags: list[str], words: str, red_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--model", str(red_model), *flags]) == 2
    assert words in capsys.readouterr().err


@pytest.fixture(scope="module")
def cluster(slow_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("ray", reason="ray is not installed (extra ray)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("ray") / "log"
    flags = ["--engine", "ray", "--replicas", "2", "--threads", "1", "--port", str(port), "--json"]
    command = [sys.executable, "-P", "-m", "aweigh.runtime.cli", "serve", "--model", str(slow_model), *flags]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, log.read_text()
    where = json.loads(line)
    assert where["grpc"] is None
    yield Server(process, where["http"], "", log)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0, log.read_text()
    assert rest == ""  # one JSON object, whatever Ray has to say
    process.stdout.close()
    assert replica_pids() == set()


def replica_pids() -> set[int]:
    """Ray names its workers after what they run."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                title = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::ServeReplica:aweigh"):
                found.add(int(entry.name))
    return found


def test_the_same_detections_and_rules(cluster: Server, slow_model: Path, picture: npt.NDArray[np.uint8]) -> None:
    body = jpeg(picture)
    with cluster.client() as client, Detector(slow_model) as detector:
        answer = client.post(DETECT, content=body, headers=JPEG)
        assert answer.json()["detections"] == detector(body).to_dict()["detections"]
        assert client.get("/v2/health/ready").status_code == 200
        assert client.post(DETECT, content=b"text", headers=JPEG).status_code == 415
        assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 400
        assert client.post("/v2/repository/models/slow/load").status_code == 409
        assert "<title>aweigh" in client.get("/").text


def test_a_replica_that_is_killed_is_missed_by_few_and_replaced(
    cluster: Server, picture: npt.NDArray[np.uint8]
) -> None:
    """The service goes on; what was in the dead replica fails, and is counted."""
    body, stop, outcomes = jpeg(picture), threading.Event(), Counter[str]()

    def ask() -> None:
        with cluster.client() as client:
            while not stop.is_set():
                try:
                    outcomes[str(client.post(DETECT, content=body, headers=JPEG).status_code)] += 1
                except httpx.TransportError:
                    outcomes["lost"] += 1

    before = replica_pids()
    assert len(before) == 2
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: outcomes["200"] > 30, 60)
        os.kill(min(before), signal.SIGKILL)
        outcomes.clear()
        until(lambda: outcomes["200"] > 100, 60)
        until(lambda: len(replica_pids()) == 2 and min(before) not in replica_pids(), 120)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    failed = outcomes.total() - outcomes["200"]
    assert failed <= outcomes["200"] / 4, outcomes

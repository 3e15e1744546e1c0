"""Clients take turns at the decoders."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from server_process import Server, jpeg

from aweigh.serve.decoding.fair_queue import FairQueue, Peer


def taken(*peers: Peer) -> list[int]:
    """Positions in the order in which they are taken."""
    queue: FairQueue[int] = FairQueue()
    for position, peer in enumerate(peers):
        queue.add(position, peer)
    order = [queue.take() for _ in peers]
    assert not queue
    with pytest.raises(IndexError):
        queue.take()
    return order


def test_one_connection_is_a_plain_queue() -> None:
    assert taken(*[Peer("a", 1)] * 5) == [0, 1, 2, 3, 4]


def test_hosts_take_turns_however_many_connections_each_has() -> None:
    many = [Peer("a", port) for port in range(6)]
    assert taken(*many, Peer("b", 1), Peer("b", 1), Peer("c", 1)) == [0, 6, 8, 1, 7, 2, 3, 4, 5]


def test_connections_of_a_host_take_turns() -> None:
    assert taken(*[Peer("a", 1)] * 4, Peer("a", 2)) == [0, 4, 1, 2, 3]


def test_who_comes_later_waits_for_one_of_each_other_only() -> None:
    queue: FairQueue[str] = FairQueue()
    for position in range(10):
        queue.add(f"a{position}", Peer("a", 1))
    assert [queue.take(), queue.take()] == ["a0", "a1"]
    queue.add("b", Peer("b", 1))
    assert [queue.take(), queue.take(), queue.take()] == ["a2", "b", "a3"]


def test_an_image_of_another_client_does_not_wait_for_all_slow_ones(
    start: Callable[..., Server], red_model: Path
) -> None:
    server = start("--model", str(red_model), "--decoders", "2", "--decode-timeout", "60", "--deadline", "100")
    slow = jpeg(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8).repeat(10, 0).repeat(10, 1))
    header = {"Content-Type": "image/jpeg"}
    ended: list[str] = []

    def ask(name: str, body: bytes, address: str) -> None:
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(base_url=server.http, transport=transport, timeout=120) as client:
            assert client.post("/v1/models/red/detect", content=body, headers=header).status_code == 200
        ended.append(name)

    text = subprocess.run(
        ["ps", "--ppid", str(server.process.pid), "-o", "pid="], capture_output=True, text=True
    ).stdout
    decoders = [int(pid) for pid in text.split()]
    assert len(decoders) == 2
    for pid in decoders:  # until all wait
        os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(9) as threads:
        for _ in range(8):
            threads.submit(ask, "slow", slow, "127.0.0.1")
        waiting = _wait_for(server, 8)
        threads.submit(ask, "good", jpeg(np.zeros((40, 60, 3), np.uint8)), "127.0.0.2")
        waiting = _wait_for(server, 9)
        for pid in decoders:
            os.kill(pid, signal.SIGCONT)
    assert waiting == 9
    assert len(ended) == 9
    assert ended.index("good") <= 4, ended  # two were at work already, and two more may have been faster


def _wait_for(server: Server, requests: int) -> float:
    until = time.monotonic() + 20
    while (waiting := server.metric("aweigh_queue_requests")) < requests and time.monotonic() < until:
        time.sleep(0.02)
    return waiting

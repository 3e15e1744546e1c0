"""Servers as processes of their own, and models small enough to start one in two seconds."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from red import red_graph, red_spec

from aweigh.runtime.spec import METADATA_KEY

TOKEN = "0123456789abcdef-correct-horse"


def write_model(path: Path, slow: int = 0, **changes: Any) -> Path:
    """The detector of red things; ``slow`` products of matrices make each call long, however many pictures it has."""
    spec = red_spec(**{"batch": (1, 8), **changes})
    smallest, largest = spec.batch
    batch = smallest if smallest == largest else "B"
    model = red_graph(spec, batch, *(("H", "W") if spec.input.dynamic_size else spec.input.size_hw))
    if slow:
        _slow_down(model.graph, slow)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.save(model, str(path))
    return path


def write_faulty_model(path: Path, output: str) -> Path:
    """As ``write_model``; ``output`` (boxes, scores) is NaN for an image that is green (255) somewhere."""
    model = onnx.load(write_model(path))
    graph = model.graph
    next(node for node in graph.node if output in node.output).output[0] = "plain"
    axes = {"boxes": [1, 2], "scores": [1]}[output]
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(255, np.float32), "full"),
            numpy_helper.from_array(np.array([1, 2, 3], np.int64), "all_axes"),
            numpy_helper.from_array(np.array(axes, np.int64), "new_axes"),
            numpy_helper.from_array(np.array([0, 1, 0], np.float32), "green"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Cast", ["images"], ["as_float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["as_float", "green"], ["green_part"]),
            helper.make_node("ReduceMax", ["green_part", "all_axes"], ["most_green"], keepdims=0),
            helper.make_node("Sub", ["full", "most_green"], ["short_of_full"]),
            helper.make_node("Div", ["short_of_full", "short_of_full"], ["one_or_nan"]),
            helper.make_node("Unsqueeze", ["one_or_nan", "new_axes"], ["factor"]),
            helper.make_node("Mul", ["plain", "factor"], [output]),
        ]
    )
    onnx.save(model, str(path))
    return path


def _slow_down(graph: onnx.GraphProto, count: int) -> None:
    """Add ``count`` products of 512x512 matrices that depend on the pictures, so that nothing can be folded."""
    eye = numpy_helper.from_array(np.eye(512, dtype=np.float32), "eye")
    graph.initializer.append(eye)
    last = next(node for node in graph.node if "scores" in node.output)
    last.output[0] = "plain_scores"
    nodes = [helper.make_node("ReduceMax", ["plain_scores"], ["top"], keepdims=0)]
    nodes += [helper.make_node("Mul", ["eye", "top"], ["product_0"])]
    nodes += [helper.make_node("MatMul", [f"product_{i}", "eye"], [f"product_{i + 1}"]) for i in range(count)]
    nodes += [
        helper.make_node("ReduceMax", [f"product_{count}"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "nought"], ["nothing"]),
        helper.make_node("Add", ["plain_scores", "nothing"], ["scores"]),
    ]
    graph.initializer.append(helper.make_tensor("nought", TensorProto.FLOAT, [], [0.0]))
    graph.node.extend(nodes)


def jpeg(image_rgb_u8: npt.NDArray[np.uint8], suffix: str = ".jpg") -> bytes:
    done, encoded = cv2.imencode(suffix, cv2.cvtColor(image_rgb_u8, cv2.COLOR_RGB2BGR))
    assert done
    return encoded.tobytes()


@dataclass
class Server:
    """A process of ``aweigh serve``."""

    process: subprocess.Popen[str]
    http: str
    grpc: str
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.http.removeprefix("http://").rsplit(":", 1)
        return host, int(port)

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(
            base_url=self.http, headers=self.headers, timeout=60, trust_env=False, verify=False, **options
        )

    def metric(self, name: str) -> float:
        """Sum of a metric's samples over its labels."""
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def stop(self) -> int:
        """SIGTERM, then the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers; each must end with code 0 and no traceback in its log, unless the test has ended it itself."""
    started: list[Server] = []

    def begin(*arguments: str, token: str | None = None) -> Server:
        log = folder / f"log-{len(started)}"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("AWEIGH_TOKEN", None)
        if token:
            environment["AWEIGH_TOKEN"] = token
        flags = ("--port", "0", "--grpc-port", "0", "--threads", "1", "--json", *arguments)
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "aweigh.runtime.cli", "serve", *flags],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        where = json.loads(line)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        started.append(Server(process, where["http"], where["grpc"], log, headers))
        return started[-1]

    yield begin
    for server in started:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
    for server in started:
        assert server.process.wait(60) == 0, server.log.read_text()
        assert server.process.stdout is not None
        server.process.stdout.close()
        assert "Traceback" not in server.log.read_text()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Raises AssertionError where it does not become true."""
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)

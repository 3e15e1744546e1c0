from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from aweigh.serve.http.gate import Gate
from aweigh.serve.models.admission import Admission
from aweigh.serve.models.metrics import Metrics
from aweigh.serve.settings import ModelSource, Settings


def answers(method: str, path: str, waiting: int) -> tuple[httpx.Response, int]:
    """The answer of a gate whose queue has two places, and how many requests came through it."""
    admission, reached = Admission(queue_items=2, queue_bytes=100), 0
    admission.waiting = waiting

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal reached
        reached += 1
        await PlainTextResponse("here")(scope, receive, send)

    gate = Gate(handler, Settings((ModelSource("m", "m.onnx"),)), admission, Metrics(admission))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://localhost") as client:
            return await client.request(method, path, content=b"x" if method == "POST" else None)

    return asyncio.run(ask()), reached


@pytest.mark.parametrize(
    "path", ["/v1/models/m/detect", "/v1/models/m/detect-batch", "/v2/models/m/infer", "/v2/models/m/versions/1/infer"]
)
def test_a_full_queue_is_told_at_the_gate(path: str) -> None:
    answer, reached = answers("POST", path, waiting=2)
    assert (answer.status_code, answer.headers["retry-after"], reached) == (503, "1", 0)
    assert "2 requests are waiting" in answer.json()["error"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    answer, reached = answers("POST", path, waiting=1)
    assert (answer.text, reached) == ("here", 1)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v2/health/ready"), ("GET", "/metrics"), ("POST", "/v2/repository/models/m/load")]
)
def test_what_takes_no_place_in_the_queue_is_let_through(method: str, path: str) -> None:
    answer, reached = answers(method, path, waiting=2)
    assert (answer.text, reached) == ("here", 1)

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aweigh.serve.access import Access
from aweigh.serve.http import v1, v2
from aweigh.serve.http.app import EXCEPTION_HANDLERS
from aweigh.serve.http.gate import AnswerHeaders, Counting, Guard, RequireRoom
from aweigh.serve.models.admission import Admission
from aweigh.serve.models.metrics import Metrics
from aweigh.serve.settings import ModelSource, Settings


class Gated:
    """An application with the routes of the server behind its gates, whose handlers only count; two places to wait."""

    def __init__(self, waiting: int = 0) -> None:
        self.admission, self.reached = Admission(queue_items=2, queue_bytes=100), 0
        self.admission.waiting = waiting
        self.metrics = Metrics(self.admission)

        async def handler(request: Request) -> Response:
            self.reached += 1
            return PlainTextResponse("here")

        def stand_in(route: Route) -> Route:
            queued = isinstance(route.app, RequireRoom)
            middleware = [Middleware(RequireRoom)] if queued else []
            return Route(route.path, handler, methods=route.methods, middleware=middleware)

        self.app = Starlette(
            routes=[stand_in(route) for route in (*v1.ROUTES, *v2.ROUTES)],
            middleware=[
                Middleware(Counting, metrics=self.metrics),
                Middleware(AnswerHeaders, admission=self.admission),
                Middleware(Guard, access=Access(Settings((ModelSource("m", "m.onnx"),))), metrics=self.metrics),
            ],
            exception_handlers=EXCEPTION_HANDLERS,
        )
        self.app.state.services = SimpleNamespace(
            admission=self.admission, metrics=self.metrics, require_room=self.admission.require_room
        )

    def ask(self, method: str, path: str, headers: list[tuple[str, str]] | None = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, headers=headers, content=b"x" if method == "POST" else None)

        return asyncio.run(ask())


@pytest.mark.parametrize(
    "path", ["/v1/models/m/detect", "/v1/models/m/detect-batch", "/v2/models/m/infer", "/v2/models/m/versions/1/infer"]
)
def test_a_full_queue_refuses_before_the_handler(path: str) -> None:
    gated = Gated(waiting=2)
    answer = gated.ask("POST", path)
    assert (answer.status_code, answer.headers["retry-after"], gated.reached) == (503, "1", 0)
    assert "2 requests are waiting" in answer.json()["error"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    gated.admission.waiting = 1
    assert (gated.ask("POST", path).text, gated.reached) == ("here", 1)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2/health/ready"), ("GET", "/v1/models"), ("POST", "/v2/repository/models/m/load")],
)
def test_requests_that_do_not_queue_pass_a_full_queue(method: str, path: str) -> None:
    gated = Gated(waiting=2)
    assert (gated.ask(method, path).text, gated.reached) == ("here", 1)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/models", [("Host", "evil.example")], 400),
        ("GET", "/v2/health/ready", [("Host", "10.0.0.7")], 200),  # a probe
        ("POST", "/v1/models/m/detect", [("Origin", "http://evil.example")], 403),
        ("POST", "/v1/models/m/detect", [("Origin", "http://localhost")], 200),
        ("POST", "/v1/models/m/detect", [("Origin", "http://localhost"), ("Origin", "http://evil.example")], 403),
        ("GET", "/v1/models", [("Origin", "http://evil.example")], 200),  # a page that may not read the answer
        ("GET", "/v1/models", [(f"X-{i}", "") for i in range(120)], 431),
    ],
)
def test_a_refusal_does_not_reach_the_handler(
    method: str, path: str, headers: list[tuple[str, str]], status: int
) -> None:
    gated = Gated()
    assert gated.ask(method, path, headers).status_code == status
    assert gated.reached == (status == 200)


def test_answers_are_counted_by_the_template_of_their_route() -> None:
    gated = Gated()
    gated.ask("GET", "/v1/models/secret")
    gated.ask("GET", "/nowhere/secret")
    text = gated.metrics.text().decode()
    assert 'aweigh_requests_total{route="/v1/models/{name}",status="200",transport="http"} 1.0' in text
    assert 'aweigh_requests_total{route="none",status="404",transport="http"} 1.0' in text
    assert "secret" not in text


def test_a_stopping_server_closes_connections() -> None:
    gated = Gated()
    assert "connection" not in gated.ask("GET", "/v1/models").headers
    gated.admission.leaving = True
    assert gated.ask("GET", "/v1/models").headers["connection"] == "close"

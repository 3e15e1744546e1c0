"""What every HTTP request passes on its way in, and every answer on its way out; one class for each job."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aweigh.serve.access import Access
from aweigh.serve.http.request import services_of
from aweigh.serve.models.admission import Admission
from aweigh.serve.models.metrics import Metrics
from aweigh.serve.problem import PROBLEM_JSON, Problem

# What a browser or a probe must reach without a token; no model answers here, and nothing of one is shown.
OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"})
OPEN_FOLDER = "/static/"
_PROBES = "/v2/health/"
# The parser bounds the bytes of headers that arrive in pieces; those that arrive at once, it takes.
_MAX_HEADERS = 100
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    # Nothing from elsewhere, no inline script; images that the user chose are blobs, Swagger UI's icons data.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}


def problem_response(problem: Problem) -> Response:
    """The problem as application/problem+json."""
    return JSONResponse(problem.to_dict(), problem.status, problem.headers(), PROBLEM_JSON)


class Counting:
    """Counts answers by route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The template of the route, not the path, which the client chooses.
                route = getattr(scope.get("route"), "path", "none")
                self._metrics.request("http", route, str(message["status"]))
            await send(message)

        await self._app(scope, receive, count if scope["type"] == "http" else send)


class AnswerHeaders:
    """Adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                # A client whose body did not arrive in time is not waited for again. The bodies of other requests that
                # are answered early are read to their end and thrown away: a client that is still writing would lose
                # the answer with the connection.
                if message["status"] == 408 or self._admission.leaving:
                    headers["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, add if scope["type"] == "http" else send)


class Guard:
    """Refuses requests with too many headers, another host, a foreign origin or without the token."""

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics) -> None:
        self._app = app
        self._access = access
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":  # the lifespan passes; there are no websockets
            try:
                self._check(Headers(scope=scope), scope)
            except Problem as problem:
                self._metrics.error(problem.kind)
                await problem_response(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, headers: Headers, scope: Scope) -> None:
        if len(headers) > _MAX_HEADERS:
            raise Problem(431, f"{len(headers)} header lines; the limit is {_MAX_HEADERS}")
        path, hosts = scope["path"], headers.getlist("host")
        # A Kubernetes probe uses the address of the pod.
        self._access.require_host(hosts, required=scope["http_version"] == "1.1", any_name=path.startswith(_PROBES))
        if scope["method"] not in ("GET", "HEAD"):
            self._access.require_same_origin(headers.getlist("origin"), hosts)
        if path not in OPEN_PATHS and not path.startswith(OPEN_FOLDER):
            self._access.require_token(headers.get("authorization"), "header Authorization:")


class RequireRoom:
    """Refuses a request of a route that queues while the queue is full; middleware of the route.

    The handler asks again, when the body is there. Under overload nearly every request is refused, and going through
    the handler is most of what a refusal costs, at the expense of the requests that were accepted.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        services_of(Request(scope)).require_room()
        await self._app(scope, receive, send)

"""Gate: what every HTTP request passes before a handler sees it, and every answer on its way out."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aweigh.serve.models.admission import Admission
from aweigh.serve.models.metrics import Metrics
from aweigh.serve.problem import PROBLEM_JSON, Problem
from aweigh.serve.settings import Settings

# What a browser or a probe must reach without a token: no model answers here, and nothing of one is told.
OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"})
OPEN_FOLDER = "/static/"
# How the paths end whose requests take a place in the queue.
_QUEUED = ("/detect", "/detect-batch", "/infer")
# The parser bounds their bytes while they come in pieces; what comes at once, it takes.
_MOST_HEADERS = 100
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    # Nothing from elsewhere, no inline script; pictures that the user chose are blobs, Swagger UI's icons data.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}


def problem_response(problem: Problem) -> Response:
    """As application/problem+json."""
    return JSONResponse(problem.content(), problem.status, problem.headers(), PROBLEM_JSON)


def right_token(header: str | None, token: str) -> bool:
    """Whether an Authorization header holds the token, in a time that does not tell how much of it."""
    scheme, _, given = (header or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


class Gate:
    """Checks host, origin and token; counts answers, and gives them the headers that all have."""

    def __init__(self, app: ASGIApp, settings: Settings, admission: Admission, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._admission = admission
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # lifespan; there are no websockets
            await self._app(scope, receive, send)
            return

        async def finish(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                # Whoever dawdled is not waited for again. Other bodies are read to their end after an early answer,
                # and thrown away: an answer to a client that still writes would be lost with the connection.
                if message["status"] == 408 or self._admission.leaving:
                    headers["Connection"] = "close"
                self._count(scope, message["status"])
            await send(message)

        try:
            self._check(Headers(scope=scope), scope)
        except Problem as problem:
            self._metrics.error(problem.kind)
            await problem_response(problem)(scope, receive, finish)
        else:
            await self._app(scope, receive, finish)

    def _check(self, headers: Headers, scope: Scope) -> None:
        if len(headers) > _MOST_HEADERS:
            raise Problem(431, f"{len(headers)} header lines; the limit is {_MOST_HEADERS}")
        hosts = headers.getlist("host")
        if len(hosts) > 1 or (not hosts and scope["http_version"] == "1.1"):
            raise Problem(400, f"Host header: there are {len(hosts)}, expected one")
        host = hosts[0] if hosts else ""
        name = host_name(host)
        allowed = {h.strip("[]").lower() for h in self._settings.allowed_hosts}
        path = scope["path"]
        probe = path.startswith("/v2/health/")  # a kubelet calls by the address of the pod
        if allowed and not probe and name not in allowed:
            raise Problem(400, "Host header: not a name of this server; see --allowed-host")
        # A web page elsewhere may send a form here with the user's browser, though it cannot read the answer.
        origin = headers.get("origin")
        if origin is not None and scope["method"] not in ("GET", "HEAD") and origin_host(origin) != host.lower():
            raise Problem(403, "Origin header: a request from another site's page")
        token = self._settings.token
        is_open = path in OPEN_PATHS or path.startswith(OPEN_FOLDER)
        if token is not None and not is_open and not right_token(headers.get("authorization"), token):
            raise Problem(401, "expected the header Authorization: Bearer TOKEN")
        # The handlers ask again. Under overload nearly every request is refused, and the way to a handler and back is
        # most of what that costs, at the expense of those who were let in.
        if scope["method"] == "POST" and path.endswith(_QUEUED):
            self._admission.require_room()

    def _count(self, scope: Scope, status: int) -> None:
        # The template of the route, not the path, which is the client's to choose.
        route = scope.get("route")
        self._metrics.request("http", getattr(route, "path", "none"), str(status))


def host_name(host: str) -> str | None:
    """Name or address of a Host header, without port and brackets; None where it is none."""
    if any(c in host for c in "/@?#\\ "):
        return None
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def origin_host(origin: str) -> str | None:
    """Host and port of an Origin header; None where it is none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None

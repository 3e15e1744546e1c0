"""The pages: the demo, the interface drawn by Swagger UI, and the files that they load; all from memory.

Reading them once keeps requests without a token away from the file system. Swagger UI comes with the package offapi, so
that the page asks no other host for anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from mimetypes import guess_type
from pathlib import Path
from typing import Any

import yaml
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from aweigh.runtime.errors import CannotRun, install_advice
from aweigh.runtime.pages import render, static_files

_SWAGGER = ("swagger_bundle.js", "swagger_style.css")
# A client that reads slowly keeps this much of a file in the server's memory, and not all of it.
_CHUNK_BYTES = 64 << 10


class PageResponse(Response):
    """A file from memory, sent in pieces."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        for start in range(0, max(len(body), 1), _CHUNK_BYTES):
            end = start + _CHUNK_BYTES
            await send({"type": "http.response.body", "body": body[start:end], "more_body": end < len(body)})


class Page:
    """A file in memory, and the handler that answers with it."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self._content = content
        self._media_type = media_type
        self._headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"', "Cache-Control": "no-cache"}

    async def respond(self, request: Request) -> Response:
        """The file; 304 without it where the client has it already."""
        if request.headers.get("if-none-match") == self._headers["ETag"]:
            return Response(status_code=304, headers=self._headers)
        return PageResponse(self._content, headers=self._headers, media_type=self._media_type)


def page_routes() -> list[Route]:
    """The routes of all pages. Raises CannotRun where Swagger UI is not installed."""
    demo, shared = static_files("aweigh.serve.demo"), static_files("aweigh.runtime.browser")
    del demo["index.html"], shared["page.html"]  # templates
    folder = _swagger_folder()
    routes = [
        Route("/", _page("index.html", render("aweigh.serve.demo", "index.html").encode())),
        Route("/docs", _page("docs.html", demo.pop("docs.html"))),
        Route("/openapi.json", Page(openapi_json(), "application/json").respond),
    ]
    routes += [Route(f"/static/demo/{name}", _page(name, content)) for name, content in sorted(demo.items())]
    routes += [Route(f"/static/page/{name}", _page(name, content)) for name, content in sorted(shared.items())]
    routes += [Route(f"/static/swagger/{name}", _page(name, (folder / name).read_bytes())) for name in _SWAGGER]
    return routes


def openapi_json() -> bytes:
    """The OpenAPI document of the HTTP interface: ``openapi.yaml``, with the version of aweigh, as JSON."""
    text = files("aweigh.serve.http").joinpath("openapi.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    document["info"]["version"] = version("aweigh")
    return json.dumps(document).encode()


def _page(name: str, content: bytes) -> Callable[[Request], Any]:
    return Page(content, guess_type(name)[0] or "application/octet-stream").respond


def _swagger_folder() -> Path:
    """Not by importing the package, which would put all of its nine megabytes into templates."""
    package = find_spec("offapi")
    if package is None or not package.submodule_search_locations:
        raise CannotRun(f"the page of the interface needs the module 'offapi': {install_advice('serve')}")
    return Path(package.submodule_search_locations[0])

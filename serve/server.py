"""One process that serves: sockets, HTTP and gRPC in one event loop, an end that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import json
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import grpc.aio
import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.serve.app import build_app
from aweigh.serve.joined_writes import JoinedWrites
from aweigh.serve.oip_grpc import build_grpc_server
from aweigh.serve.problem import PROBLEM_JSON, Problem
from aweigh.serve.services import Services
from aweigh.serve.settings import Settings

LOG = logging.getLogger("aweigh.serve")
_LAME_DUCK_S = 1.0
_LINGER_S = 1.0
_HEADER_BYTES = 32 << 10
# How long a thread that comes back from the network or the decoder waits for the interpreter, at most; 5 ms by default.
_SWITCH_S = 2e-4
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Listening:
    """Where a server can be reached: base URL of HTTP, ``host:port`` of gRPC (None: not served)."""

    http: str
    grpc: str | None


def serve(
    settings: Settings,
    port: int,
    grpc_port: int | None,
    on_listening: Callable[[Listening, Services], None] = lambda where, services: None,
    build: Callable[[Settings], FastAPI] = build_app,
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was accepted and return.

    Args:
        port, grpc_port: 0 for a free one; no gRPC for None.
        on_listening: called once requests are taken.
        build: of the application.

    Raises:
        BadInput, CannotRun, CheckFailed: a model cannot be served, or an address not be had; nobody was answered.
    """
    listener = bind(settings.host, port)
    sys.setswitchinterval(_SWITCH_S)
    with listener:
        app = build(settings)
        asyncio.run(_serve(app, settings, listener, grpc_port, on_listening))


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket that listens to nobody yet. Raises BadInput for a host that is none, CannotRun for a taken port."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise BadInput(f"--host {host}: {error.strerror}") from error
    # With the protocol named, else asyncio leaves Nagle's algorithm on, and every answer waits 40 ms for a delayed ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        hint = "; another program has it, choose another --port" if error.errno == errno.EADDRINUSE else ""
        raise CannotRun(f"{host}, port {port}: {error.strerror}{hint}") from error
    return listener


async def _serve(
    app: Any,
    settings: Settings,
    listener: socket.socket,
    grpc_port: int | None,
    on_listening: Callable[[Listening, Services], None],
) -> None:
    services: Services = app.state.services
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    config = uvicorn.Config(
        app,
        http=cast(Any, functools.partial(PatientH11, settings.limits.body_s)),
        h11_max_incomplete_event_size=_HEADER_BYTES,
        ws="none",
        lifespan="on",
        log_config=None,  # the handlers of the process are the command line's to choose
        access_log=False,  # a metric counts requests; addresses and queries stay out of the log
        server_header=False,
        date_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(settings.limits.drain_s)),
        proxy_headers=False,
    )
    grpc_server, grpc_address = None, None
    if grpc_port is not None:
        try:
            grpc_server, bound = build_grpc_server(services, f"{host}:{grpc_port}")
        except RuntimeError as error:
            await services.close()
            raise CannotRun(
                f"{settings.host}, gRPC port {grpc_port}: cannot be had; choose another --grpc-port"
            ) from error
        await grpc_server.start()
        grpc_address = f"{host}:{bound}"
    server = HttpServer(config, services, grpc_server)
    server.on_started = lambda: on_listening(
        Listening(f"http://{host}:{listener.getsockname()[1]}", grpc_address), services
    )
    await server.serve([listener])


class HttpServer(uvicorn.Server):
    """uvicorn's server with an end in which clients are told to go before connections close, and exit status 0."""

    def __init__(self, config: uvicorn.Config, services: Services, grpc_server: grpc.aio.Server | None) -> None:
        super().__init__(config)
        self._services = services
        self._grpc_server = grpc_server
        self.on_started: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Nobody new is let in; who is here is answered, with ``Connection: close``."""
        LOG.info("stopping: %d requests wait", self._services.admission.waiting)
        for server in self.servers:
            server.close()
        self._services.admission.leaving = True
        drain_s = self._services.settings.limits.drain_s
        # A client that keeps its connection would otherwise find it closed under its next request.
        stopping = [asyncio.create_task(self._until_alone(min(_LAME_DUCK_S, drain_s)))]
        if self._grpc_server is not None:
            stopping.append(asyncio.create_task(self._grpc_server.stop(drain_s)))
        await asyncio.gather(*stopping)
        await super().shutdown(sockets)

    async def _until_alone(self, seconds: float) -> None:
        end_s = asyncio.get_running_loop().time() + seconds
        while self.server_state.connections and asyncio.get_running_loop().time() < end_s:
            await asyncio.sleep(0.02)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Without uvicorn's raising the signal again at the end, which would make a clean stop look like a crash."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)


class PatientH11(H11Protocol):
    """HTTP by h11, which bounds the size of headers, with a bound on the time they may take to arrive.

    uvicorn itself waits for the first request of a connection, for the rest of its headers, and for the rest of a body
    whose request was refused, without end.
    """

    def __init__(self, headers_s: float, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._headers_s = headers_s
        self._header_timer: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport)))
        self._await_headers(True)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        # Between requests, what comes are headers, or the rest of a body whose request was refused.
        self._await_headers(self.cycle is None or self.cycle.response_complete)

    def connection_lost(self, exc: Exception | None) -> None:
        self._await_headers(False)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """For what is no HTTP. What else the client sends is read for a moment: closing on it would take the answer."""
        problem = Problem(400, f"{msg} Headers may have {_HEADER_BYTES >> 10} KiB in all.")
        body = json.dumps(problem.content()).encode()
        headers = [("Content-Type", PROBLEM_JSON), ("Content-Length", str(len(body))), ("Connection", "close")]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._refused = True
        self.loop.call_later(_LINGER_S, self.transport.close)

    def _await_headers(self, awaited: bool) -> None:
        if awaited and self._header_timer is None:
            self._header_timer = self.loop.call_later(self._headers_s, self.transport.close)
        elif not awaited and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

"""One process that serves: sockets, HTTP and gRPC in one event loop, and a shutdown that loses no accepted request."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import grpc.aio
import uvicorn
from starlette.applications import Starlette

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.serve.http.app import build_app
from aweigh.serve.http.protocol import PatientHttp
from aweigh.serve.rpc.service import build_grpc_server
from aweigh.serve.services import Services
from aweigh.serve.settings import Settings

LOG = logging.getLogger("aweigh.serve")
_LAME_DUCK_S = 1.0
# How long a thread that returns from the network or the decoder waits for the interpreter, at most; Python's default is
# 5 ms.
_SWITCH_S = 2e-4
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Listening:
    """Where a server listens.

    Attributes:
        http: base URL.
        grpc: ``host:port``; None where gRPC is not served.
    """

    http: str
    grpc: str | None


def serve(
    settings: Settings,
    port: int = 8000,
    grpc_port: int | None = None,
    on_listening: Callable[[Listening, Services], None] = lambda where, services: None,
    build: Callable[[Settings], Starlette] = build_app,
) -> None:
    """Serve until SIGTERM or SIGINT, then answer the requests that were accepted, and return.

    Runs in the main thread, which receives signals. If stopping takes longer than ``Limits.drain_s``, because a network
    or a decoder hangs, the process exits with code 1.

    Args:
        settings: models, address, limits, token.
        port: of HTTP; 0 for a free one.
        grpc_port: of gRPC; 0 for a free one, None for no gRPC.
        on_listening: called once requests are accepted, with the addresses and the open models.
        build: builds the application.

    Raises:
        BadInput: a model file that cannot be served, or an unknown host.
        CannotRun: the machine lacks the device or a library, or the port is taken.
        CheckFailed: a model does not compute what its golden images demand.

    Example:
        >>> import signal, threading, urllib.request
        >>> from aweigh.serve import Settings, serve
        >>> def ask_and_stop(where, services):
        ...     def ask():
        ...         with urllib.request.urlopen(f"{where.http}/v2/health/ready") as answer:
        ...             print(answer.status)
        ...         signal.raise_signal(signal.SIGTERM)
        ...     threading.Thread(target=ask).start()
        >>> serve(Settings.of(model_path), port=0, on_listening=ask_and_stop)
        200
    """
    listener = bind(settings.host, port)
    sys.setswitchinterval(_SWITCH_S)
    with listener:
        app = build(settings)
        asyncio.run(_serve(app, settings, listener, grpc_port, on_listening))


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket that does not listen yet. Raises BadInput for an unknown host, CannotRun for a taken port."""
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
        hint = "; another program uses it, choose another --port" if error.errno == errno.EADDRINUSE else ""
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
    try:
        await services.start()
    except BaseException:
        await services.close()
        raise
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    config = uvicorn.Config(
        app,
        http=cast(Any, functools.partial(PatientHttp, settings.limits.body_s, settings.limits.connections)),
        ws="none",
        lifespan="on",
        log_config=None,  # the command line chooses the handlers of the process
        access_log=False,  # a metric counts requests; addresses and queries stay out of the log
        server_header=False,
        date_header=False,
        timeout_keep_alive=30,
        # Leaves time for what comes before and after it, see HttpServer.shutdown.
        timeout_graceful_shutdown=max(1, round(settings.limits.drain_s - 2 * _LAME_DUCK_S)),
        proxy_headers=False,
    )
    grpc_server, grpc_address = None, None
    if grpc_port is not None:
        try:
            grpc_server, bound = build_grpc_server(services, f"{host}:{grpc_port}")
        except RuntimeError as error:
            await services.close()
            raise CannotRun(
                f"{settings.host}, gRPC port {grpc_port}: not available; choose another --grpc-port"
            ) from error
        await grpc_server.start()
        grpc_address = f"{host}:{bound}"
    server = HttpServer(config, services, grpc_server)
    server.on_started = lambda: on_listening(
        Listening(f"http://{host}:{listener.getsockname()[1]}", grpc_address), services
    )
    try:
        await server.serve([listener])
    finally:
        server.watchdog.cancel()


class HttpServer(uvicorn.Server):
    """uvicorn's server with a shutdown that asks clients to leave before it closes connections, and exit status 0."""

    def __init__(self, config: uvicorn.Config, services: Services, grpc_server: grpc.aio.Server | None) -> None:
        super().__init__(config)
        self._services = services
        self._grpc_server = grpc_server
        self.on_started: Callable[[], None] = lambda: None
        # A thread: the event loop may be waiting for a thread that hangs.
        self.watchdog = threading.Timer(services.settings.limits.drain_s, self._exit_at_once)
        self.watchdog.daemon = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_started()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; each second, connections whose clients do not read are dropped."""
        if counter % 10 == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, PatientHttp) and connection.drop_if_stuck():
                    LOG.info("dropped a connection whose client does not read")
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no new connection; answer the requests on those there are, with ``Connection: close``."""
        LOG.info("stopping: %d requests are waiting", self._services.admission.waiting)
        for server in self.servers:
            server.close()
        self._services.admission.leaving = True
        self.watchdog.start()
        drain_s = self._services.settings.limits.drain_s
        # A client that reuses its connection would otherwise find it closed under its next request.
        stopping = [asyncio.create_task(self._until_no_connections(min(_LAME_DUCK_S, drain_s)))]
        if self._grpc_server is not None:
            stopping.append(asyncio.create_task(self._grpc_server.stop(drain_s)))
        await asyncio.gather(*stopping)
        await super().shutdown(sockets)

    def _exit_at_once(self) -> None:
        drain_s, waiting = self._services.settings.limits.drain_s, self._services.admission.waiting
        LOG.error("not stopped within %g s (%d requests are waiting): a thread hangs; exiting now", drain_s, waiting)
        os._exit(1)

    async def _until_no_connections(self, seconds: float) -> None:
        end_s = asyncio.get_running_loop().time() + seconds
        while self.server_state.connections and asyncio.get_running_loop().time() < end_s:
            await asyncio.sleep(0.02)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does not raise the signal again at the end, which would make a clean stop look like a crash."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

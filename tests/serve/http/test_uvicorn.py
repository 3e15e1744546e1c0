"""The private names of uvicorn that protocol.py and server.py override or read.

pyproject.toml bounds uvicorn's version. Before the bound is raised, this file must pass with the new version.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from aweigh.serve.http.protocol import PatientHttp
from aweigh.serve.server import HttpServer

_CHANGED = f"uvicorn {uvicorn.__version__} has changed: adapt serve/http/protocol.py and serve/server.py to it"

# Overridden method -> its parameters.
PROTOCOL = {
    "__init__": ("config", "server_state", "app_state", "_loop"),
    "connection_made": ("transport",),
    "connection_lost": ("exc",),
    "data_received": ("data",),
    "send_400_response": ("msg",),
    "on_message_begin": (),
    "on_header": ("name", "value"),
    "on_headers_complete": (),
    "on_body": ("body",),
    "on_message_complete": (),
    "on_response_complete": (),
    "resume_writing": (),
}
SERVER = {
    "startup": ("sockets",),
    "on_tick": ("counter",),
    "shutdown": ("sockets",),
    "capture_signals": (),
    "handle_exit": ("sig", "frame"),
}


def parameters(owner: type, name: str) -> tuple[str, ...]:
    assert callable(getattr(owner, name, None)), f"{_CHANGED}: {owner.__name__}.{name} is gone"
    return tuple(inspect.signature(getattr(owner, name)).parameters)[1:]


@pytest.mark.parametrize("name", PROTOCOL)
def test_the_protocol_has_the_methods_that_are_overridden(name: str) -> None:
    assert parameters(HttpToolsProtocol, name) == PROTOCOL[name], f"{_CHANGED}: HttpToolsProtocol.{name}"


@pytest.mark.parametrize("name", SERVER)
def test_the_server_has_the_methods_that_are_overridden(name: str) -> None:
    assert parameters(uvicorn.Server, name) == SERVER[name], f"{_CHANGED}: Server.{name}"


def test_every_override_is_listed() -> None:
    def overridden(ours: type, base: type) -> set[str]:
        return {name for name, value in vars(ours).items() if callable(value) and hasattr(base, name)}

    assert overridden(PatientHttp, HttpToolsProtocol) == set(PROTOCOL)
    assert overridden(HttpServer, uvicorn.Server) == set(SERVER) - {"handle_exit"} | {"__init__"}


class Transport(asyncio.Transport):
    """A connection in memory."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.sent, self.closed = b"", False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def writelines(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def close(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def answer(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def test_uvicorn_calls_the_overridden_methods_and_sets_the_attributes_that_are_read() -> None:
    called: list[str] = []

    class Recording(PatientHttp):
        def __getattribute__(self, name: str) -> Any:
            if name in PROTOCOL:
                called.append(name)
            return super().__getattribute__(name)

    async def test() -> None:
        state, transport = ServerState(), Transport()
        config = uvicorn.Config(cast(Any, answer), log_config=None)
        protocol = Recording(10.0, 9, config=config, server_state=state, app_state={})
        protocol.connection_made(transport)
        assert protocol.loop is asyncio.get_running_loop(), _CHANGED
        assert protocol.transport is not None, _CHANGED
        assert protocol.cycle is None, _CHANGED
        assert protocol in state.connections, _CHANGED
        assert protocol.connections is state.connections, _CHANGED
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        protocol.data_received(head + b"2\r\nhi\r\n0\r\nX-Trailer: 1\r\n\r\n")
        assert isinstance(protocol.cycle, RequestResponseCycle), _CHANGED
        assert (b"x-trailer", b"1") not in protocol.headers
        while not protocol.cycle.response_complete:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert transport.sent.startswith(b"HTTP/1.1 200 OK\r\n")
        assert transport.sent.endswith(b"\r\n\r\nok")
        assert len(protocol.pipeline) == 0, _CHANGED
        assert protocol.cycle.more_body is False, _CHANGED
        expected = set(PROTOCOL) - {"__init__", "send_400_response", "connection_lost", "resume_writing"}
        assert set(called) == expected, f"{_CHANGED}: not called are {expected - set(called)}"
        protocol.data_received(b"no HTTP\r\n\r\n")
        await asyncio.sleep(0.01)
        assert "send_400_response" in called, _CHANGED
        assert b"HTTP/1.1 400 Bad Request" in transport.sent
        assert b"application/problem+json" in transport.sent
        protocol.connection_lost(None)
        assert "resume_writing" not in called, f"{_CHANGED}: on_tick relies on the transport alone to call it"
        assert protocol not in state.connections, _CHANGED

    asyncio.run(asyncio.wait_for(test(), 20))


def test_the_server_keeps_what_a_shutdown_reads() -> None:
    server = uvicorn.Server(uvicorn.Config(cast(Any, answer), log_config=None, timeout_graceful_shutdown=1))
    assert server.server_state.connections == set(), _CHANGED
    assert server.should_exit is False, _CHANGED
    source = inspect.getsource(uvicorn.Server)
    for name in ("self.servers", "self.capture_signals()", "timeout_graceful_shutdown", "self.lifespan.shutdown()"):
        assert name in source, f"{_CHANGED}: Server without {name}"

"""Which connection goes when there are too many."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from aweigh.serve.http.protocol import PatientHttp


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass


async def until_hung_up(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def test_the_connection_idle_longest_makes_room_and_a_busy_one_does_not() -> None:
    async def test() -> None:
        state, config = ServerState(), uvicorn.Config(cast(Any, until_hung_up), log_config=None)
        transports: list[Transport] = []

        def connect() -> PatientHttp:
            protocol = PatientHttp(10.0, 3, config=config, server_state=state, app_state={})
            transports.append(Transport())
            protocol.connection_made(transports[-1])
            return protocol

        protocols = []
        for _ in range(3):
            protocols.append(connect())
            await asyncio.sleep(0.001)
        assert [t.aborted for t in transports] == [False] * 3
        protocols[0].data_received(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")  # busy
        await asyncio.sleep(0.001)
        protocols[1].data_received(b"GET / HTTP/1.1\r\n")  # slow headers are idle, but not the longest
        protocols.append(connect())
        assert [t.aborted for t in transports] == [False, False, True, False]
        protocols[2].connection_lost(None)
        protocols[1].data_received(b"Host: localhost\r\n\r\n")
        protocols[3].data_received(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        protocols.append(connect())  # all are busy: the newest goes
        assert [t.aborted for t in transports] == [False, False, True, False, True]
        for protocol in protocols:
            protocol.connection_lost(None)
        while state.tasks:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(test(), 20))

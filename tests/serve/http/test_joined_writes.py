"""JoinedWrites before a real transport: what arrives, and in how many pieces it was sent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

from aweigh.serve.http.joined_writes import JoinedWrites


class Counted:
    """A transport that counts how often it sends."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport, self.sent = transport, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        self.sent += bool(data)
        self.transport.write(data)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self.sent += 1
        self.transport.writelines(pieces)


def test_head_and_body_go_together_and_nothing_is_held_back() -> None:
    async def test() -> None:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        counted = Counted(transport)
        joined = JoinedWrites(counted)  # type: ignore[arg-type]
        joined.write(b"head")
        joined.write(b"body")
        joined.write(b"")
        assert counted.sent == 1
        assert await reader.readexactly(8) == b"headbody"
        joined.write(b"alone")  # a piece that no second one follows goes out by itself
        assert await reader.readexactly(5) == b"alone"
        joined.write(b"one")
        joined.write(b"two")
        joined.write(b"three")
        assert not joined.is_closing()
        joined.close()
        assert await reader.read() == b"onetwothree"
        assert counted.sent == 4
        assert joined.is_closing()
        writer.close()

    asyncio.run(asyncio.wait_for(test(), 20))

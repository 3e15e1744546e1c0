"""A transport that sends an answer's head and body in one piece."""

from __future__ import annotations

import asyncio
from typing import Any


class JoinedWrites:
    """Stands before a transport, all of whose other methods it has.

    uvicorn writes the head of an answer, then the body, and each sending runs through the kernel and wakes the client.
    Here the first piece waits for the second one, at most until the event loop comes round.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        elif data:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held = self._held, b""
        self._transport.write(held)

"""HTTP by uvicorn and llhttp, with the bounds that the two leave out."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aweigh.serve.http.joined_writes import JoinedWrites
from aweigh.serve.problem import PROBLEM_JSON, Problem

_LINGER_S = 1.0
_HEADER_BYTES = 32 << 10


class PatientHttp(HttpToolsProtocol):
    """A connection whose headers, and trailers, are bounded in size and in the time that they may take to arrive.

    uvicorn itself waits for the first request of a connection, for the rest of its headers, and for the rest of a body
    whose request was refused, without end; llhttp keeps a line of any length until it ends.
    """

    def __init__(self, headers_s: float, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._headers_s = headers_s
        self._header_timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._pending_bytes = 0  # that came since the last piece of a body, or the end of the last headers
        self._in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport)))
        self._await_headers(True)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._pending_bytes += len(data)
        super().data_received(data)
        if self._pending_bytes > _HEADER_BYTES and not self._refused:
            self.send_400_response("Headers are too long.")
        # Between requests, what comes are headers, or the rest of a body whose request was refused.
        self._await_headers(self.cycle is None or self.cycle.response_complete)

    def connection_lost(self, exc: Exception | None) -> None:
        self._await_headers(False)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """For what is no HTTP. What else the client sends is read for a moment: closing on it would take the answer."""
        problem = Problem(400, f"{msg} Headers may have {_HEADER_BYTES >> 10} KiB in all.")
        body = json.dumps(problem.to_dict()).encode()
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self._refused = True
        self.loop.call_later(_LINGER_S, self.transport.close)

    def on_message_begin(self) -> None:
        self._in_headers = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_headers:  # trailers are not used, and would be kept
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_headers, self._pending_bytes = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending_bytes = 0
        super().on_message_complete()

    def _await_headers(self, awaited: bool) -> None:
        if awaited and self._header_timer is None:
            self._header_timer = self.loop.call_later(self._headers_s, self.transport.close)
        elif not awaited and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

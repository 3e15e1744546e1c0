"""HTTP by uvicorn and llhttp, with the bounds that the two leave out."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aweigh.serve.problem import PROBLEM_JSON, Problem

_LINGER_S = 1.0
_HEADER_BYTES = 32 << 10


class PatientHttp(HttpToolsProtocol):
    """A connection whose client has a limited time: for its headers and trailers, which are bounded in size too, and to
    read the answers.

    uvicorn itself waits for the first request of a connection, for the rest of its headers, for the rest of a body
    whose request was refused, and for a client that does not read, without end; llhttp keeps a line of any length until
    it ends.
    """

    def __init__(self, patience_s: float, max_connections: int, *arguments: Any, **keywords: Any) -> None:
        """
        Args:
            patience_s: seconds for the headers, and for each part of an answer that fills the write buffer.
            max_connections: of the server; a further one takes the place of the one that has been idle longest.
        """
        super().__init__(*arguments, **keywords)
        self._patience_s = patience_s
        self._max_connections = max_connections
        self._header_timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._waiting_refusal: bytes | None = None
        self._pending_bytes = 0  # that arrived since the last piece of a body, or the end of the last headers
        self._in_headers = True
        self._progress_s = 0.0  # when the write buffer was last seen empty, or drained
        self._received_s = 0.0  # when the client last sent something

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._progress_s = self._received_s = self.loop.time()
        self._await_headers(True)
        if len(self.connections) > self._max_connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._received_s = self.loop.time()
        self._pending_bytes += len(data)
        super().data_received(data)
        if self._pending_bytes > _HEADER_BYTES and not self._refused:
            self.send_400_response("Headers are too long.")
        # Between requests, headers arrive, or the rest of a body whose request was refused.
        self._await_headers(self.idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._await_headers(False)
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        self._progress_s = self.loop.time()
        super().resume_writing()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered, or read."""
        return self.cycle is None or self.cycle.response_complete

    def drop_if_stuck(self) -> bool:
        """Abort the connection of a client that does not read what was written for it; call this every second or so.

        Returns:
            Whether it was aborted. Closing would wait for the client once more.
        """
        now_s = self.loop.time()
        if not self.transport.get_write_buffer_size():
            self._progress_s = now_s
        elif now_s - self._progress_s > self._patience_s:
            self.transport.abort()
            return True
        return False

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP, once the requests before them are answered."""
        problem = Problem(400, f"{msg} Headers may have {_HEADER_BYTES >> 10} KiB in all.")
        body = json.dumps(problem.to_dict()).encode()
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self._refused = True
        cycle = self.cycle
        in_body = cycle is not None and cycle.more_body and not cycle.response_complete
        if in_body and self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()  # a request that has not begun, and whose body cannot be read
            in_body = False
        answering = bool(self.pipeline) or (cycle is not None and not cycle.response_complete and not in_body)
        if answering:
            self._waiting_refusal = head.encode() + body
        else:
            self._refuse(head.encode() + body)

    def on_response_complete(self) -> None:
        last = not self.pipeline
        super().on_response_complete()
        if last and self._waiting_refusal is not None:
            self._refuse(self._waiting_refusal)
            self._waiting_refusal = None

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

    def _refuse(self, answer: bytes) -> None:
        """What else the client sends is read for a moment: closing at once would take the answer from it."""
        self.transport.write(answer)
        self.loop.call_later(_LINGER_S, self.transport.close)

    def _make_room(self) -> None:
        idle = [c for c in self.connections if isinstance(c, PatientHttp) and c is not self and c.idle]
        min(idle, key=lambda c: c._received_s, default=self).transport.abort()

    def _await_headers(self, awaited: bool) -> None:
        if awaited and self._header_timer is None:
            self._header_timer = self.loop.call_later(self._patience_s, self.transport.close)
        elif not awaited and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

"""Bodies of HTTP requests: read within limits, whatever their headers claim, and taken apart."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from aweigh.serve.models.admission import Ticket
from aweigh.serve.problem import Problem
from aweigh.serve.settings import Limits


def content_type(request: Request) -> str:
    """The media type in lower case without parameters; empty where there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_type(request: Request, allowed: Collection[str]) -> str:
    """The media type. ``allowed`` holds types and ``group/*``; Problem 415 for others and for compressed bodies."""
    # A body that says it is compressed would have to be inflated to be measured.
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Problem(415, f"Content-Encoding {encoding[:40]!r}: expected a body that is not compressed")
    found = content_type(request)
    if found not in allowed and f"{found.partition('/')[0]}/*" not in allowed:
        raise Problem(415, f"Content-Type {found[:80]!r}: expected {', '.join(a for a in sorted(allowed) if a)}")
    return found


async def read_body(request: Request, limits: Limits, ticket: Ticket, limit_bytes: int | None = None) -> bytes:
    """All of the body.

    Raises:
        Problem: 413 more bytes than the limit, by the header or in truth; 408 too slow; 499 the client has gone;
            503 no memory for it now.
    """
    limit = limits.body_bytes if limit_bytes is None else limit_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise Problem(413, f"a body of {int(declared)} bytes; the limit is {limit}")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise Problem(413, f"a body of more than {limit} bytes, the limit")
                ticket.hold(size)
                chunks.append(chunk)
    except TimeoutError as late:
        raise Problem(408, f"the body was not complete within {limits.body_s:g} s ({size} bytes came)") from late
    except ClientDisconnect as gone:
        raise Problem(499, "the client has gone") from gone
    return b"".join(chunks)


def split_multipart(body: bytes, content_type_header: str, most_files: int) -> list[bytes]:
    """The parts named ``file`` of a multipart/form-data body, in order.

    Raises Problem 400 (no such form, cut off), 413 (more files than ``most_files``) or 422 (parts of other names).
    """
    kind, options = parse_options_header(content_type_header)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
        raise Problem(400, "multipart/form-data: expected a boundary of 1 to 70 characters in the Content-Type")
    form = _Form(most_files)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": form.part_begin,
            "on_header_field": form.header_field,
            "on_header_value": form.header_value,
            "on_header_end": form.header_end,
            "on_headers_finished": form.headers_finished,
            "on_part_data": form.part_data,
            "on_part_end": form.part_end,
            "on_end": form.end,
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Problem(400, f"multipart/form-data: not readable ({error})") from error
    if not form.complete:
        raise Problem(400, "multipart/form-data: cut off, the closing boundary is missing")
    if not form.files:
        raise Problem(422, "multipart/form-data: expected a part named 'file'")
    return form.files


class _Form:
    """Collects what python-multipart's parser calls out; the parser itself bounds number and length of headers."""

    def __init__(self, most_files: int) -> None:
        self._most_files = most_files
        self.files: list[bytes] = []
        self.complete = False
        self._field, self._value, self._data = bytearray(), bytearray(), bytearray()
        self._name = b""

    def part_begin(self) -> None:
        if len(self.files) >= self._most_files:
            raise Problem(413, f"more than {self._most_files} files in one request, the limit")
        self._name, self._data = b"", bytearray()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._name = options.get(b"name", b"")
        self._field.clear()
        self._value.clear()

    def headers_finished(self) -> None:
        if self._name != b"file":
            name = self._name[:80].decode("latin-1")
            raise Problem(422, f"multipart/form-data: a part named {name!r}; expected 'file' alone")

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def part_end(self) -> None:
        self.files.append(bytes(self._data))

    def end(self) -> None:
        self.complete = True

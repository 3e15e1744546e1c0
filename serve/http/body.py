"""The body of an HTTP request, read within limits, whatever its headers claim."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from aweigh.serve.models.admission import Ticket
from aweigh.serve.problem import Problem
from aweigh.serve.settings import Limits


async def read_body(request: Request, limits: Limits, ticket: Ticket, limit_bytes: int | None = None) -> bytes:
    """All of the body.

    Args:
        ticket: counts the bytes that are in memory.
        limit_bytes: largest body; by default ``limits.body_bytes``.

    Raises:
        Problem: 413 more bytes than the limit, by the header or in truth; 408 not complete in time; 499 the client
            hung up; 503 the server holds too many bytes already.
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
        raise Problem(408, f"the body was not complete within {limits.body_s:g} s ({size} bytes arrived)") from late
    except ClientDisconnect as gone:
        raise Problem(499, "the client hung up") from gone
    return b"".join(chunks)

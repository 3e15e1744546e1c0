"""Work for a client ends when the client hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from aweigh.serve.problem import Problem

T = TypeVar("T")


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the client hangs up; the body must have been read.

    Raises Problem 499, which no client will read, and whatever ``work`` raises.
    """
    working = asyncio.current_task()
    assert working is not None
    hung_up = False

    async def listen() -> None:
        nonlocal hung_up
        while (await request.receive())["type"] != "http.disconnect":
            pass
        hung_up = True
        working.cancel()

    listening = asyncio.create_task(listen())
    try:
        return await work
    except asyncio.CancelledError:
        if not hung_up or working.uncancel():  # or the handler was cancelled from elsewhere too
            raise
        raise Problem(499, "the client hung up") from None
    finally:
        listening.cancel()

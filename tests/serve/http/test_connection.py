"""while_connected: work that ends with the client's connection, and only with that."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from aweigh.serve.http.connection import while_connected
from aweigh.serve.problem import Problem


class Client:
    """What a request receives: nothing until the client hangs up."""

    def __init__(self) -> None:
        self.hung_up = asyncio.Event()
        self.listened = 0

    async def receive(self) -> Message:
        self.listened += 1
        try:
            await self.hung_up.wait()
            return {"type": "http.disconnect"}
        finally:
            self.listened -= 1

    def request(self) -> Request:
        return Request({"type": "http", "headers": []}, self.receive)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


def test_the_result_or_the_error_of_the_work() -> None:
    async def test() -> None:
        client = Client()

        async def fail() -> None:
            await asyncio.sleep(0.01)
            raise ArithmeticError("of the work")

        assert await while_connected(client.request(), asyncio.sleep(0.01, "done")) == "done"
        with pytest.raises(ArithmeticError, match="of the work"):
            await while_connected(client.request(), fail())
        await asyncio.sleep(0)
        assert client.listened == 0  # nobody is left waiting for a disconnect

    run(test())


def test_work_ends_when_the_client_hangs_up() -> None:
    async def test() -> None:
        client, ended = Client(), []

        async def work() -> None:
            try:
                async with asyncio.timeout(10):  # as a deadline within: it is not the one that ended it
                    await asyncio.sleep(10)
            finally:
                ended.append(1)

        asyncio.get_running_loop().call_later(0.02, client.hung_up.set)
        with pytest.raises(Problem, match="the client hung up") as caught:
            await while_connected(client.request(), work())
        assert (caught.value.status, ended) == (499, [1])
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0  # what follows in the handler is not cancelled

    run(test())


def test_a_cancelled_handler_stays_cancelled() -> None:
    async def test() -> None:
        client = Client()
        task = asyncio.create_task(while_connected(client.request(), asyncio.sleep(10)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Also where the client hangs up in the same moment.
        task = asyncio.create_task(while_connected(client.request(), asyncio.sleep(10)))
        await asyncio.sleep(0.01)
        client.hung_up.set()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test())


def test_a_deadline_within_stays_a_deadline() -> None:
    async def test() -> None:
        async def work() -> None:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)

        with pytest.raises(TimeoutError):
            await while_connected(Client().request(), work())

    run(test())

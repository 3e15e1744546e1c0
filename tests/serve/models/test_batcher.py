from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.network import ImagesU8, Outputs, fill_batch
from aweigh.runtime.spec import InputSpec, ModelSpec, PostSpec
from aweigh.serve.models.batcher import Batcher
from aweigh.serve.problem import Problem


def picture(value: int, rows: int = 1, size: int = 2) -> ImagesU8:
    return np.full((rows, size, size, 3), value, np.uint8)


class Recorder:
    """An ``infer`` that returns the first value of each row, remembers the batches, and can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.shapes: list[tuple[int, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.failing: set[int] = set()

    def __call__(self, images_u8: ImagesU8) -> Outputs:
        values = images_u8[:, 0, 0, 0].tolist()
        self.batches.append(values)
        self.shapes.append(images_u8.shape)
        self.entered.set()
        assert self.gate.wait(20)
        if self.failing & set(values):
            raise ArithmeticError("this batch")
        return {"value": images_u8[:, 0, 0, 0].astype(np.int64)}


def filled_up(infer: Recorder, smallest: int) -> Callable[[ImagesU8], Outputs]:
    """As a model calls it whose file takes no smaller batch."""
    spec = ModelSpec("fcos", "r18", (), InputSpec((2, 2)), PostSpec("none"), batch=(smallest, 64))
    return lambda images_u8: infer(fill_batch(images_u8, spec))


async def ask(batcher: Batcher, images_u8: ImagesU8, on_begin: Callable[[], None] = lambda: None) -> list[int]:
    with batcher.arrival():
        result = await batcher.submit(images_u8, on_begin)
    return list(result.outputs["value"].tolist())


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test

    asyncio.run(bounded())


async def occupied(batcher: Batcher, infer: Recorder) -> asyncio.Task[list[int]]:
    """A first request that keeps the network busy until the gate opens."""
    infer.gate.clear()
    first = asyncio.create_task(ask(batcher, picture(99)))
    await asyncio.to_thread(infer.entered.wait, 20)
    return first


def test_what_waits_together_goes_together_and_each_gets_its_own_rows() -> None:
    async def test() -> None:
        infer = Recorder()
        batcher = Batcher(infer, 8)
        first = await occupied(batcher, infer)
        tasks = [asyncio.create_task(ask(batcher, picture(i, rows=1 + i % 2))) for i in range(5)]
        await asyncio.sleep(0)
        infer.gate.set()
        assert await first == [99]
        assert await asyncio.gather(*tasks) == [[0], [1, 1], [2], [3, 3], [4]]
        assert infer.batches == [[99], [0, 1, 1, 2, 3, 3, 4]]
        await batcher.close()

    run(test())


def test_no_batch_is_larger_than_the_file_takes_and_none_smaller() -> None:
    async def test() -> None:
        infer = Recorder()
        batcher = Batcher(filled_up(infer, 4), 4)
        first = await occupied(batcher, infer)
        tasks = [asyncio.create_task(ask(batcher, picture(i))) for i in range(1, 8)]
        await asyncio.sleep(0)
        infer.gate.set()
        await first
        assert await asyncio.gather(*tasks) == [[i] for i in range(1, 8)]
        assert infer.batches == [[99, 114, 114, 114], [1, 2, 3, 4], [5, 6, 7, 114]]
        await batcher.close()

    run(test())


def test_only_equal_sizes_share_a_batch() -> None:
    async def test() -> None:
        infer = Recorder()
        batcher = Batcher(infer, 8)
        first = await occupied(batcher, infer)
        tasks = [asyncio.create_task(ask(batcher, picture(i, size=2 + 2 * (i % 2)))) for i in range(4)]
        await asyncio.sleep(0)
        infer.gate.set()
        await first
        assert await asyncio.gather(*tasks) == [[i] for i in range(4)]
        assert infer.shapes[1:] == [(2, 2, 2, 3), (2, 4, 4, 3)]
        await batcher.close()

    run(test())


def test_abandoned_requests_are_never_computed() -> None:
    async def test() -> None:
        infer, dropped = Recorder(), []
        batcher = Batcher(infer, 2, on_dropped=lambda: dropped.append(1))
        first = await occupied(batcher, infer)
        tasks = [asyncio.create_task(ask(batcher, picture(i))) for i in range(6)]
        await asyncio.sleep(0)
        for task in tasks[:5]:
            task.cancel()
        await asyncio.wait(tasks[:5])
        infer.gate.set()
        assert await first == [99]
        assert await tasks[5] == [5]
        assert infer.batches == [[99], [5]]
        assert len(dropped) == 5
        await batcher.close()

    run(test())


def test_a_full_batch_follows_without_waiting_for_the_event_loop() -> None:
    async def test() -> None:
        infer, begun = Recorder(), []
        batcher = Batcher(infer, 2)
        first = await occupied(batcher, infer)
        tasks = [asyncio.create_task(ask(batcher, picture(i), lambda i=i: begun.append(i))) for i in range(5)]  # type: ignore[misc]
        for _ in range(3):
            await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.wait(tasks[1:2])
        assert begun == []  # handed over, but their batch has not begun
        infer.gate.set()
        end_s = time.monotonic() + 20
        while len(infer.batches) < 2 and time.monotonic() < end_s:  # the loop does nothing meanwhile
            time.sleep(0.001)
        assert infer.batches == [[99], [0]]
        assert begun == []
        assert await first == [99]
        assert await asyncio.gather(*tasks[:1], *tasks[2:]) == [[0], [2], [3], [4]]
        assert infer.batches[2:] == [[2, 3], [4]]
        assert sorted(begun) == [0, 1, 2, 3, 4]
        await batcher.close()

    run(test())


def test_a_batch_with_room_left_is_not_handed_over_early() -> None:
    async def test() -> None:
        infer = Recorder()
        batcher = Batcher(infer, 4)
        first = await occupied(batcher, infer)
        tasks = [asyncio.create_task(ask(batcher, picture(i, rows=3))) for i in (1, 2)]
        for _ in range(3):
            await asyncio.sleep(0)
        tasks.append(asyncio.create_task(ask(batcher, picture(3))))  # fits beside the first of them
        for _ in range(3):
            await asyncio.sleep(0)
        infer.gate.set()
        await first
        assert await asyncio.gather(*tasks) == [[1, 1, 1], [2, 2, 2], [3]]
        assert infer.batches == [[99], [1, 1, 1, 3], [2, 2, 2]]
        await batcher.close()

    run(test())


def test_a_failing_batch_fails_alone() -> None:
    async def test() -> None:
        infer = Recorder()
        infer.failing = {1}
        batcher = Batcher(infer, 2)
        first = await occupied(batcher, infer)
        tasks = [asyncio.create_task(ask(batcher, picture(i))) for i in range(4)]
        await asyncio.sleep(0)
        infer.gate.set()
        await first
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(r, ArithmeticError) for r in results] == [True, True, False, False]
        assert results[2:] == [[2], [3]]
        await batcher.close()

    run(test())


def test_a_lone_client_waits_for_nobody() -> None:
    """With a wait of an hour a client alone would never be answered if it waited at all."""

    async def test() -> None:
        infer = Recorder()
        batcher = Batcher(infer, 8, wait_s=3600)
        for i in range(3):
            assert await ask(batcher, picture(i)) == [i]
        await batcher.close()

    run(test())


def test_a_batch_waits_for_requests_that_are_still_being_decoded() -> None:
    async def test() -> None:
        infer = Recorder()
        batcher = Batcher(infer, 8, wait_s=3600)
        decoded = asyncio.Event()

        async def slow(value: int) -> list[int]:
            with batcher.arrival():
                await decoded.wait()
                return list((await batcher.submit(picture(value))).outputs["value"].tolist())

        late = asyncio.create_task(slow(1))
        early = asyncio.create_task(ask(batcher, picture(0)))
        await asyncio.sleep(0.05)
        assert infer.batches == []
        decoded.set()
        assert await asyncio.gather(early, late) == [[0], [1]]
        assert infer.batches == [[0, 1]]
        await batcher.close()

    run(test())


def test_clients_that_leave_are_waited_for_once() -> None:
    async def test() -> None:
        infer = Recorder()
        batcher = Batcher(infer, 8, wait_s=0.02)
        first = await occupied(batcher, infer)
        tasks = [asyncio.create_task(ask(batcher, picture(i))) for i in range(4)]
        await asyncio.sleep(0)
        infer.gate.set()
        await asyncio.gather(first, *tasks)
        # Five were here: the next one waits for them, in vain, and goes alone; the one after that is alone at once.
        assert await ask(batcher, picture(7)) == [7]
        batcher._traffic.wait_s = 3600
        assert await ask(batcher, picture(8)) == [8]
        assert infer.batches == [[99], [0, 1, 2, 3], [7], [8]]
        await batcher.close()

    run(test())


def test_closing_answers_what_is_queued_and_refuses_what_comes() -> None:
    async def test() -> None:
        infer = Recorder()
        batcher = Batcher(infer, 8, wait_s=3600)
        first = await occupied(batcher, infer)
        begun: list[int] = []
        queued = asyncio.create_task(ask(batcher, picture(1), lambda: begun.append(1)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        assert begun == []
        with pytest.raises(Problem, match="being closed"):
            await ask(batcher, picture(2))
        infer.gate.set()
        assert await asyncio.gather(first, queued) == [[99], [1]]
        await closing
        assert begun == [1]
        await batcher.close()

    run(test())


async def ask_alone(batcher: Batcher, images_u8: ImagesU8) -> list[int]:
    with batcher.arrival():
        assert batcher.alone
        result = await batcher.compute(images_u8)
    return list(result.outputs["value"].tolist())


def test_who_is_alone_is_computed_at_once() -> None:
    async def test() -> None:
        infer, rows = Recorder(), []
        batcher = Batcher(filled_up(infer, 3), 8, on_batch=lambda count, seconds: rows.append(count))
        assert await ask_alone(batcher, picture(7, rows=2)) == [7, 7]
        assert (infer.batches, rows) == ([[7, 7, 114]], [2])
        assert await ask(batcher, picture(5)) == [5]  # the other way goes on as before
        assert batcher.running_s == 0
        await batcher.close()
        with pytest.raises(Problem, match="being closed"):
            await ask_alone(batcher, picture(7))

    run(test())


def test_who_comes_while_one_is_computed_alone_shares_the_next_batch() -> None:
    async def test() -> None:
        infer = Recorder()
        batcher = Batcher(infer, 8)
        infer.gate.clear()
        first = asyncio.create_task(ask_alone(batcher, picture(99)))
        await asyncio.to_thread(infer.entered.wait, 20)
        with batcher.arrival():
            assert not batcher.alone
        tasks = [asyncio.create_task(ask(batcher, picture(i))) for i in range(4)]
        await asyncio.sleep(0.05)  # the batcher has had its chance to hand over a part of them
        infer.gate.set()
        assert await first == [99]
        assert await asyncio.gather(*tasks) == [[i] for i in range(4)]
        assert infer.batches == [[99], [0, 1, 2, 3]]
        await batcher.close()

    run(test())


def test_who_was_alone_and_hangs_up_before_the_thread_is_free_is_not_computed() -> None:
    async def test() -> None:
        infer, dropped = Recorder(), []
        batcher = Batcher(infer, 8, on_dropped=lambda: dropped.append(1))
        busy = threading.Event()
        batcher._thread.submit(busy.wait, 20)
        task = asyncio.create_task(ask_alone(batcher, picture(1)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        next_one = asyncio.create_task(ask(batcher, picture(2)))
        busy.set()
        assert await next_one == [2]
        assert (infer.batches, dropped) == ([[2]], [1])
        await batcher.close()

    run(test())


def test_how_long_a_batch_has_been_running() -> None:
    """What tells that a network hangs, whichever way the batch came to it."""

    async def test() -> None:
        for alone in (True, False):
            infer = Recorder()
            batcher = Batcher(infer, 8)
            infer.gate.clear()
            task = asyncio.create_task((ask_alone if alone else ask)(batcher, picture(1)))
            await asyncio.to_thread(infer.entered.wait, 20)
            await asyncio.sleep(0.05)
            assert batcher.running_s >= 0.05
            infer.gate.set()
            await task
            assert batcher.running_s == 0
            await batcher.close()

    run(test())


def test_clients_of_one_batch_are_answered_in_rounds_of_the_loop_so_that_the_first_comes_back_meanwhile() -> None:
    async def test() -> None:
        infer = Recorder()
        batcher = Batcher(infer, 8)
        first = await occupied(batcher, infer)
        order: list[str] = []

        async def client(name: str) -> None:
            await ask(batcher, picture(1))
            order.append(f"{name} answered")
            await asyncio.sleep(0)  # the loop comes round
            order.append(f"{name} came back")

        tasks = [asyncio.create_task(client(name)) for name in "abc"]
        await asyncio.sleep(0)
        infer.gate.set()
        await asyncio.gather(first, *tasks)
        assert infer.batches == [[99], [1, 1, 1]]
        assert order.index("a came back") < order.index("c answered")
        await batcher.close()

    run(test())

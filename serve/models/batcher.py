"""Batcher: single requests in, batches through the network, each request's own rows out."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from aweigh.runtime.network import ImagesU8, Outputs
from aweigh.serve.problem import overloaded

# Nobody may have arrived for this share of the last batch's time before the next one stops waiting: 5 ms for a network
# of 20 ms, which eight clients on loopback need to come back.
_WAIT_SHARE = 0.25
# So many times that in all, while somebody keeps arriving or is being decoded.
_LONGEST_WAIT = 4.0
_NONE = np.empty((0, 0, 0, 3), np.uint8)  # rows yet to be made


@dataclass(frozen=True)
class BatchResult:
    """One request's part of a batch.

    Attributes:
        outputs: the graph's outputs, the rows of this request.
        queue_ms: from submission to the start of the batch.
        network_ms: of the whole batch.
        batch_rows: pictures that went through together, without filling.
    """

    outputs: Outputs
    queue_ms: float
    network_ms: float
    batch_rows: int


@dataclass(eq=False)
class _Job:
    images_u8: ImagesU8
    future: asyncio.Future[BatchResult]
    on_begin: Callable[[], None]
    submitted_s: float


@dataclass(frozen=True)
class _Through:
    """A batch that is through: the requests that were still wanted when it began, and their outputs."""

    jobs: list[_Job]
    outputs: Outputs
    begin_s: float
    seconds: float


@dataclass(frozen=True)
class _Batch:
    """Requests handed to the thread."""

    jobs: list[_Job]
    through: asyncio.Future[_Through]


class Batcher:
    """Gathers requests while the previous batch runs; one batch at a time, in a thread of its own.

    The next batch is handed over while the network is still busy, once it is full: the network need not wait until the
    event loop, which then has a batch to answer, comes to it.

    How long to wait is read off the traffic: the most requests that were inside at one time since the last batch began
    are expected again. A lone client is never kept waiting, and eight clients in step get batches of eight instead of
    two halves in turn.

    Who is ``alone`` need not queue: ``compute`` has a picture decoded and computed in the one thread.
    """

    def __init__(
        self,
        infer: Callable[[ImagesU8], Outputs],
        largest_batch: int,
        *,
        wait_s: float = 0.05,
        on_batch: Callable[[int, float], None] = lambda rows, seconds: None,
        on_dropped: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            infer: from [B, H, W, 3] to outputs with at least B rows each, the first B of these images; called in one
                thread.
            largest_batch: most rows per call.
            wait_s: most that a batch waits for others without any arriving; less where the network is fast.
            on_batch: told rows and seconds of each batch.
            on_dropped: told of each request that had gone before its batch began.
        """
        self._infer = infer
        self.largest_batch = largest_batch
        self._wait_s = wait_s
        self._on_batch = on_batch
        self._on_dropped = on_dropped
        self._jobs: deque[_Job] = deque()
        self._inside = 0  # from arrival to answer
        self._peak = 0  # of _inside, since the last batch began
        self._batch_s = math.inf  # of the last batch
        self._arrived_s = 0.0  # when the last one came in, or was ready
        self._changed = asyncio.Event()
        self._alone = False  # whether ``compute`` has the thread
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="infer")
        self._loop: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def arrival(self) -> Iterator[None]:
        """Around all that is done for one request, decoding included, so that it is expected before it is submitted."""
        self._inside += 1
        self._peak = max(self._peak, self._inside)
        self._arrived_s = time.perf_counter()
        try:
            yield
        finally:
            self._inside -= 1
            self._changed.set()

    @property
    def alone(self) -> bool:
        """Whether, within an ``arrival``, there is no other request, and the thread is free."""
        return self._inside == 1 and not self._jobs and not self._alone

    async def compute(self, make: Callable[[], ImagesU8], on_begin: Callable[[], None] = lambda: None) -> BatchResult:
        """As ``submit``, for who is ``alone``: rows are made in the thread that computes them.

        That saves the way from the thread that decoded a picture to the event loop and on to the network. Cancelling
        while the rows are made leaves the network out.

        Raises:
            Problem: 503, the batcher is closing.
            Exception: whatever ``make`` or ``infer`` raised.
        """
        if self._closing:
            raise overloaded("the model is being closed; come again")
        loop = asyncio.get_running_loop()
        job = _Job(_NONE, loop.create_future(), on_begin, time.perf_counter())
        self._begin([job])
        self._alone = True
        # Straight to the future: run_in_executor has one of its own, and the event loop would come round once more.
        self._thread.submit(self._work_alone, job, make, loop)
        return await job.future

    def _work_alone(self, job: _Job, make: Callable[[], ImagesU8], loop: asyncio.AbstractEventLoop) -> None:
        """In the thread."""
        begin_s = time.perf_counter()
        result: BatchResult | Exception | None = None
        try:
            images_u8 = make()
            if not job.future.done():
                start_s, rows = time.perf_counter(), len(images_u8)
                outputs = self._infer(images_u8)
                network_ms = (time.perf_counter() - start_s) * 1e3
                own = {name: array[:rows] for name, array in outputs.items()}
                result = BatchResult(own, (begin_s - job.submitted_s) * 1e3, network_ms, rows)
        except Exception as error:  # the request's own, see ``_answer``
            result = error
        loop.call_soon_threadsafe(self._answer_alone, job, result)

    def _answer_alone(self, job: _Job, result: BatchResult | Exception | None) -> None:
        self._alone = False
        self._changed.set()
        if result is None:
            self._on_dropped()
        elif isinstance(result, BatchResult):
            self._batch_s = result.network_ms / 1e3
            self._on_batch(result.batch_rows, self._batch_s)
            if not job.future.done():
                job.future.set_result(result)
        elif not job.future.done():
            job.future.set_exception(result)

    async def submit(self, images_u8: ImagesU8, on_begin: Callable[[], None] = lambda: None) -> BatchResult:
        """Have rows computed, within an ``arrival``. Cancelling drops them if their batch has not begun.

        Args:
            images_u8: [n, H, W, 3], n up to ``largest_batch``; only equal H and W share a batch.
            on_begin: called when the batch begins.

        Raises:
            Problem: 503, the batcher is closing.
            Exception: whatever ``infer`` raised for the batch.
        """
        if self._closing:
            raise overloaded("the model is being closed; come again")
        if self._loop is None:
            self._loop = asyncio.create_task(self._run())
        job = _Job(images_u8, asyncio.get_running_loop().create_future(), on_begin, time.perf_counter())
        self._jobs.append(job)
        self._arrived_s = job.submitted_s
        self._changed.set()
        return await job.future

    async def close(self) -> None:
        """Compute what is queued, refuse what comes, and end the thread. Calling it twice does nothing."""
        self._closing = True
        self._changed.set()
        if self._loop is not None:
            await self._loop
        self._thread.shutdown()

    async def _run(self) -> None:
        ahead: _Batch | None = None
        while ahead is not None or await self._gather():
            batch = ahead or self._hand_over(begins=True)
            ahead = None
            if batch is not None:
                ahead = await self._ahead_of(batch)
                self._answer(batch)

    async def _gather(self) -> bool:
        """Wait until a batch is worth starting; False once the last one is done."""
        while not self._jobs or self._alone:
            if self._closing and not self._alone:
                return False
            self._changed.clear()
            await self._changed.wait()
        start_s = time.perf_counter()
        target = min(self._peak, self.largest_batch)
        wait_s = min(self._wait_s, _WAIT_SHARE * self._batch_s)
        while sum(len(job.images_u8) for job in self._jobs) < target and not self._closing:
            end_s = start_s + _LONGEST_WAIT * wait_s
            if self._inside <= len(self._jobs):  # nobody is being decoded
                end_s = min(end_s, max(start_s, self._arrived_s) + wait_s)
            left_s = end_s - time.perf_counter()
            if left_s <= 0:
                break
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left_s)
        return True

    def _take(self) -> list[_Job]:
        """The oldest request still wanted and those of its size that fit beside it, in order."""
        taken: list[_Job] = []
        rows = 0
        left: deque[_Job] = deque()
        while self._jobs:
            job = self._jobs.popleft()
            if job.future.done():
                self._on_dropped()
            elif not taken or (
                job.images_u8.shape[1:] == taken[0].images_u8.shape[1:]
                and rows + len(job.images_u8) <= self.largest_batch
            ):
                taken.append(job)
                rows += len(job.images_u8)
            else:
                left.append(job)
        self._jobs = left
        return taken

    def _hand_over(self, begins: bool) -> _Batch | None:
        """Give the thread its next batch; None where nobody wants it any more. ``begins``: the thread is free."""
        jobs = self._take()
        if not jobs:
            return None
        if begins:
            self._begin(jobs)
        loop = asyncio.get_running_loop()
        begin = None if begins else lambda: loop.call_soon_threadsafe(self._begin, jobs)
        return _Batch(jobs, loop.run_in_executor(self._thread, self._compute, jobs, begin))

    def _begin(self, jobs: list[_Job]) -> None:
        self._peak = self._inside
        for job in jobs:
            job.on_begin()

    async def _ahead_of(self, batch: _Batch) -> _Batch | None:
        """Wait until a batch is through; returns the next one, if it was full before that."""
        ahead: _Batch | None = None
        batch.through.add_done_callback(lambda _: self._changed.set())
        while not batch.through.done():
            if ahead is None and self._is_full():
                ahead = self._hand_over(begins=False)
            self._changed.clear()
            await self._changed.wait()
        return ahead

    def _is_full(self) -> bool:
        """Whether ``_take`` would fill a batch to the last row: nobody who comes could still get in."""
        wanted = [job.images_u8 for job in self._jobs if not job.future.done()]
        rows = 0
        for images_u8 in wanted:
            if images_u8.shape[1:] == wanted[0].shape[1:] and rows + len(images_u8) <= self.largest_batch:
                rows += len(images_u8)
        return rows == self.largest_batch

    def _compute(self, jobs: list[_Job], begin: Callable[[], object] | None) -> _Through:
        """In the thread. Who has gone since the batch was handed over is left out."""
        begin_s = time.perf_counter()
        wanted = [job for job in jobs if not job.future.done()]
        if begin is not None:
            begin()
        outputs = self._infer(_joined([job.images_u8 for job in wanted])) if wanted else {}
        return _Through(wanted, outputs, begin_s, time.perf_counter() - begin_s)

    def _answer(self, batch: _Batch) -> None:
        try:
            through = batch.through.result()
        except Exception as error:  # of this batch alone; the next one has its own chance
            for job in batch.jobs:
                if not job.future.done():
                    job.future.set_exception(error)
            return
        for _ in range(len(batch.jobs) - len(through.jobs)):
            self._on_dropped()
        if not through.jobs:
            return
        rows = sum(len(job.images_u8) for job in through.jobs)
        self._batch_s = through.seconds
        self._on_batch(rows, through.seconds)
        start = 0
        for job in through.jobs:
            end = start + len(job.images_u8)
            if not job.future.done():
                own = {name: array[start:end] for name, array in through.outputs.items()}
                queue_ms = (through.begin_s - job.submitted_s) * 1e3
                job.future.set_result(BatchResult(own, queue_ms, through.seconds * 1e3, rows))
            start = end


def _joined(parts: list[ImagesU8]) -> ImagesU8:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)

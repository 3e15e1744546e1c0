"""Batcher: single requests in, batches through the network, each request's own rows out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from aweigh.runtime.network import ImagesU8, Outputs
from aweigh.serve.models.jobs import BatchResult, Job, JobQueue
from aweigh.serve.models.traffic import Traffic
from aweigh.serve.problem import overloaded


@dataclass(frozen=True)
class _Computed:
    """A batch that is computed: the jobs that were still wanted when it began, and their outputs."""

    jobs: list[Job]
    outputs: Outputs
    begin_s: float
    seconds: float


@dataclass(frozen=True)
class _Batch:
    """Jobs handed to the thread."""

    jobs: list[Job]
    computed: asyncio.Future[_Computed]


class Batcher:
    """Gathers requests while the previous batch runs; one batch at a time, in a thread of its own.

    A batch that is full is handed to the thread while the network is still busy, so that the network need not wait
    for the event loop, which has the previous batch to answer. ``Traffic`` decides how long another one waits.

    A request that is ``alone`` need not queue: ``compute`` hands it to the one thread at once.
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
            infer: from [B, H, W, 3], B from 1 to ``largest_batch``, to outputs of which the first B rows count; called
                in one thread.
            largest_batch: most rows per call.
            wait_s: longest time without an arrival that a batch waits; less where the network is fast.
            on_batch: called with rows and seconds of each batch.
            on_dropped: called for each request whose client was gone before its batch began.
        """
        self._infer = infer
        self.largest_batch = largest_batch
        self._on_batch = on_batch
        self._on_dropped = on_dropped
        self._traffic = Traffic(wait_s)
        self._queue = JobQueue(largest_batch)
        self._changed = asyncio.Event()
        self._thread_taken = False  # by ``compute``
        self._began_s: float | None = None  # when the thread began what it is at
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="infer")
        self._running: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def arrival(self) -> Iterator[None]:
        """Around all work for one request, decoding included, so that it is expected before it is submitted."""
        self._traffic.arrive(time.perf_counter())
        try:
            yield
        finally:
            self._traffic.leave()
            self._changed.set()

    @property
    def alone(self) -> bool:
        """Whether, within an ``arrival``, there is no other request, and the thread is free."""
        return self._traffic.inside == 1 and not self._queue and not self._thread_taken

    @property
    def running_s(self) -> float:
        """For how long the network has been at its batch, seconds; 0 while it rests."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.perf_counter() - began_s

    async def compute(self, images_u8: ImagesU8, on_begin: Callable[[], None] = lambda: None) -> BatchResult:
        """As ``submit``, for a request that is ``alone``."""
        self._require_open()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[BatchResult] = loop.create_future()
        self._traffic.begin_batch()
        on_begin()
        self._thread_taken = True
        # Straight to the future: run_in_executor has one of its own, and the event loop would come round once more.
        self._thread.submit(self._compute_alone, images_u8, future, time.perf_counter(), loop)
        return await future

    def _compute_alone(
        self,
        images_u8: ImagesU8,
        future: asyncio.Future[BatchResult],
        submitted_s: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """In the thread."""
        begin_s = self._began_s = time.perf_counter()
        result: BatchResult | Exception | None = None
        try:
            if not future.done():
                rows = len(images_u8)
                outputs = self._infer(images_u8)
                network_ms = (time.perf_counter() - begin_s) * 1e3
                own = {name: array[:rows] for name, array in outputs.items()}
                result = BatchResult(own, (begin_s - submitted_s) * 1e3, network_ms, rows)
        except Exception as error:  # of this request alone, see ``_answer``
            result = error
        self._began_s = None
        loop.call_soon_threadsafe(self._answer_alone, future, result)

    def _answer_alone(self, future: asyncio.Future[BatchResult], result: BatchResult | Exception | None) -> None:
        self._thread_taken = False
        self._changed.set()
        if result is None:
            self._on_dropped()
        elif isinstance(result, Exception):
            if not future.done():
                future.set_exception(result)
        else:
            self._end_of_batch(result.batch_rows, result.network_ms / 1e3)
            if not future.done():
                future.set_result(result)

    async def submit(self, images_u8: ImagesU8, on_begin: Callable[[], None] = lambda: None) -> BatchResult:
        """Have rows computed, within an ``arrival``. Cancelling drops them if their batch has not begun.

        Args:
            images_u8: [n, H, W, 3], n up to ``largest_batch``; only equal H and W share a batch.
            on_begin: called when the batch begins.

        Raises:
            Problem: 503, the batcher is closing.
            Exception: whatever ``infer`` raised for the batch.
        """
        self._require_open()
        job = Job(images_u8, asyncio.get_running_loop().create_future(), on_begin, time.perf_counter())
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        self._queue.add(job)
        self._traffic.ready(job.submitted_s)
        self._changed.set()
        return await job.future

    async def close(self) -> None:
        """Compute what is queued, refuse new requests, and end the thread. Calling it twice does nothing."""
        self._closing = True
        self._changed.set()
        if self._running is not None:
            await self._running
        self._thread.shutdown()

    def _require_open(self) -> None:
        if self._closing:
            raise overloaded("the model is being closed; try again")

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
        while not self._queue or self._thread_taken:
            if self._closing and not self._thread_taken:
                return False
            self._changed.clear()
            await self._changed.wait()
        start_s = time.perf_counter()
        expected = self._traffic.expected(self.largest_batch)
        while self._queue.rows < expected and not self._closing:
            left_s = self._traffic.wait_until_s(start_s, len(self._queue)) - time.perf_counter()
            if left_s <= 0:
                break
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left_s)
        return True

    def _hand_over(self, begins: bool) -> _Batch | None:
        """Give the thread its next batch; None where no job is wanted any more.

        Args:
            begins: the thread is free, and the batch begins at once.
        """
        jobs, dropped = self._queue.take()
        for _ in range(dropped):
            self._on_dropped()
        if not jobs:
            return None
        if begins:
            self._begin(jobs)
        loop = asyncio.get_running_loop()
        begin = None if begins else lambda: loop.call_soon_threadsafe(self._begin, jobs)
        return _Batch(jobs, loop.run_in_executor(self._thread, self._compute, jobs, begin))

    def _begin(self, jobs: list[Job]) -> None:
        self._traffic.begin_batch()
        for job in jobs:
            job.on_begin()

    async def _ahead_of(self, batch: _Batch) -> _Batch | None:
        """Wait until a batch is computed; returns the next one, if it was full before that."""
        ahead: _Batch | None = None
        batch.computed.add_done_callback(lambda _: self._changed.set())
        while not batch.computed.done():
            if ahead is None and self._queue.is_full():
                ahead = self._hand_over(begins=False)
            self._changed.clear()
            await self._changed.wait()
        return ahead

    def _compute(self, jobs: list[Job], begin: Callable[[], object] | None) -> _Computed:
        """In the thread. Jobs that are no longer wanted since the batch was handed over are left out."""
        begin_s = self._began_s = time.perf_counter()
        wanted = [job for job in jobs if job.wanted]
        if begin is not None:
            begin()
        parts = [job.images_u8 for job in wanted]
        try:
            outputs = self._infer(parts[0] if len(parts) == 1 else np.concatenate(parts)) if parts else {}
        finally:
            self._began_s = None
        return _Computed(wanted, outputs, begin_s, time.perf_counter() - begin_s)

    def _answer(self, batch: _Batch) -> None:
        try:
            computed = batch.computed.result()
        except Exception as error:  # of this batch alone; the next one has its own chance
            for job in batch.jobs:
                if job.wanted:
                    job.future.set_exception(error)
            return
        for _ in range(len(batch.jobs) - len(computed.jobs)):
            self._on_dropped()
        if not computed.jobs:
            return
        rows = sum(len(job.images_u8) for job in computed.jobs)
        self._end_of_batch(rows, computed.seconds)
        start = 0
        answers: deque[tuple[Job, BatchResult]] = deque()
        for job in computed.jobs:
            end = start + len(job.images_u8)
            own = {name: array[start:end] for name, array in computed.outputs.items()}
            queue_ms = (computed.begin_s - job.submitted_s) * 1e3
            answers.append((job, BatchResult(own, queue_ms, computed.seconds * 1e3, rows)))
            start = end
        self._answer_first(answers)

    def _answer_first(self, answers: deque[tuple[Job, BatchResult]]) -> None:
        """Answer one, and the others each in a round of the event loop of its own.

        All in one round would let the decoders rest until the last answer is written: the clients that were answered
        first have sent their next images by then.
        """
        job, result = answers.popleft()
        if job.wanted:
            job.future.set_result(result)
        if answers:
            asyncio.get_running_loop().call_soon(self._answer_first, answers)

    def _end_of_batch(self, rows: int, seconds: float) -> None:
        self._traffic.end_of_batch(seconds)
        self._on_batch(rows, seconds)

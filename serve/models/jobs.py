"""Jobs: requests that wait for the network, and which of them share a batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aweigh.runtime.network import ImagesU8, Outputs


@dataclass(frozen=True)
class BatchResult:
    """One request's part of a batch.

    Attributes:
        outputs: the graph's outputs, the rows of this request.
        queue_ms: from submission to the start of the batch.
        network_ms: of the whole batch.
        batch_rows: images that went through the network together, without filling.
    """

    outputs: Outputs
    queue_ms: float
    network_ms: float
    batch_rows: int


@dataclass(eq=False)
class Job:
    """One request's rows.

    Attributes:
        images_u8: [n, H, W, 3].
        future: receives the result; a job whose future is done is no longer wanted.
        on_begin: called when its batch begins.
        submitted_s: by ``time.perf_counter``.
    """

    images_u8: ImagesU8
    future: asyncio.Future[BatchResult]
    on_begin: Callable[[], None]
    submitted_s: float

    @property
    def wanted(self) -> bool:
        """Whether the client still waits."""
        return not self.future.done()


class JobQueue:
    """Jobs in the order of their submission."""

    def __init__(self, largest_batch: int) -> None:
        self._largest_batch = largest_batch
        self._jobs: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def rows(self) -> int:
        """Images that wait."""
        return sum(len(job.images_u8) for job in self._jobs)

    def add(self, job: Job) -> None:
        self._jobs.append(job)

    def take(self) -> tuple[list[Job], int]:
        """The next batch: the oldest job still wanted, and those of its size that fit with it, in order.

        Returns:
            The jobs, and how many were dropped because they are no longer wanted.
        """
        batch = list(self._batch())
        taken = set(map(id, batch))
        dropped = sum(not job.wanted for job in self._jobs)
        self._jobs = deque(job for job in self._jobs if job.wanted and id(job) not in taken)
        return batch, dropped

    def is_full(self) -> bool:
        """Whether ``take`` would fill a batch to its last row, so that no later job could join it."""
        return sum(len(job.images_u8) for job in self._batch()) == self._largest_batch

    def _batch(self) -> Iterator[Job]:
        size_hw: tuple[int, ...] | None = None
        rows = 0
        for job in self._jobs:
            if not job.wanted:
                continue
            if size_hw is None:
                size_hw = job.images_u8.shape[1:3]
            elif job.images_u8.shape[1:3] != size_hw or rows + len(job.images_u8) > self._largest_batch:
                continue
            rows += len(job.images_u8)
            yield job

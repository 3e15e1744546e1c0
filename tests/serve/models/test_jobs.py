"""Which jobs share a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from aweigh.serve.models.jobs import Job, JobQueue


@pytest.fixture
def make_job() -> Callable[..., Job]:
    loop = asyncio.new_event_loop()

    def make(rows: int = 1, size: int = 2, wanted: bool = True) -> Job:
        job = Job(np.zeros((rows, size, size, 3), np.uint8), loop.create_future(), lambda: None, 0.0)
        if not wanted:
            job.future.cancel()
        return job

    loop.close()
    return make


def filled(largest_batch: int, *jobs: Job) -> JobQueue:
    queue = JobQueue(largest_batch)
    for job in jobs:
        queue.add(job)
    return queue


def test_the_oldest_and_those_that_fit_beside_it_go_in_order(make_job: Callable[..., Job]) -> None:
    jobs = [make_job(rows) for rows in (3, 3, 1, 2)]
    queue = filled(4, *jobs)
    assert (len(queue), queue.rows, queue.is_full()) == (4, 9, True)
    assert queue.take() == ([jobs[0], jobs[2]], 0)
    assert not queue.is_full()  # 3 rows, and the next job has 2
    assert queue.take() == ([jobs[1]], 0)
    assert queue.take() == ([jobs[3]], 0)
    assert queue.take() == ([], 0)


def test_other_sizes_wait_for_a_batch_of_their_own(make_job: Callable[..., Job]) -> None:
    jobs = [make_job(size=size) for size in (2, 4, 2, 4)]
    queue = filled(8, *jobs)
    assert queue.take() == ([jobs[0], jobs[2]], 0)
    assert queue.take() == ([jobs[1], jobs[3]], 0)


def test_jobs_that_are_not_wanted_are_dropped_and_counted_once(make_job: Callable[..., Job]) -> None:
    jobs = [make_job(wanted=False), make_job(), make_job(wanted=False), make_job()]
    queue = filled(1, *jobs)
    assert queue.is_full()
    assert queue.take() == ([jobs[1]], 2)
    assert queue.take() == ([jobs[3]], 0)
    queue = filled(1, make_job(wanted=False))
    assert not queue.is_full()
    assert queue.take() == ([], 1)


def test_a_job_larger_than_a_batch_goes_alone(make_job: Callable[..., Job]) -> None:
    large, small = make_job(rows=9), make_job()
    queue = filled(4, large, small)
    assert not queue.is_full()
    assert queue.take() == ([large], 0)

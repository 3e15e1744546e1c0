from __future__ import annotations

import pytest

from aweigh.serve.models.admission import Admission
from aweigh.serve.problem import Problem


def test_a_place_is_free_again_when_the_batch_begins() -> None:
    admission = Admission(queue_items=2, queue_bytes=100)
    with admission.ticket() as first, admission.ticket() as second:
        first.enter()
        second.enter()
        with pytest.raises(Problem, match="2 requests are waiting") as refused:
            admission.ticket()
        assert (refused.value.status, refused.value.retry_after_s) == (503, 1)
        first.begin()
        first.begin()
        assert admission.waiting == 1
        with admission.ticket() as third:
            third.enter()
            assert admission.waiting == 2
    assert admission.waiting == 0


def test_who_has_not_sent_its_body_takes_no_place_but_may_find_none() -> None:
    admission = Admission(queue_items=1, queue_bytes=100)
    with admission.ticket(), admission.ticket() as quick, admission.ticket() as late:
        quick.enter()
        with pytest.raises(Problem, match="try again"):
            late.enter()
    assert admission.waiting == 0


def test_bytes_are_bounded_over_all_requests_and_given_back() -> None:
    admission = Admission(queue_items=9, queue_bytes=100)
    with admission.ticket() as first, admission.ticket() as second:
        first.hold(60)
        first.hold(30)
        second.hold(70)
        with pytest.raises(Problem, match="100 bytes"):
            second.hold(71)
        assert admission.held_bytes == 100
    assert admission.held_bytes == 0


def test_a_stopping_server_takes_nobody() -> None:
    admission = Admission(9, 9)
    admission.draining = True
    with pytest.raises(Problem, match="stopping"):
        admission.ticket()

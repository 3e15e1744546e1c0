"""How long a batch waits, and for how many: arithmetic without a clock."""

from __future__ import annotations

import pytest

from aweigh.serve.models.traffic import Traffic


def after_batch(inside: int, batch_s: float, wait_s: float = 0.05) -> Traffic:
    """Some requests are inside when a batch begins; it is over by now."""
    traffic = Traffic(wait_s)
    for _ in range(inside):
        traffic.arrive(now_s=0.0)
    traffic.begin_batch()
    traffic.end_of_batch(batch_s)
    return traffic


def test_the_most_that_were_inside_since_the_last_batch_are_expected() -> None:
    traffic = after_batch(inside=3, batch_s=0.02)
    assert traffic.expected(largest_batch=8) == 3
    traffic.leave()
    traffic.leave()
    assert traffic.expected(largest_batch=8) == 3  # they may come back
    traffic.arrive(now_s=1.0)
    assert traffic.expected(largest_batch=8) == 3
    traffic.begin_batch()
    assert traffic.expected(largest_batch=8) == 2
    for _ in range(20):
        traffic.arrive(now_s=1.0)
    assert traffic.expected(largest_batch=8) == 8


def test_a_lone_request_is_all_that_is_expected() -> None:
    traffic = Traffic(wait_s=3600)
    traffic.arrive(now_s=0.0)
    traffic.ready(now_s=0.0)
    assert traffic.expected(largest_batch=8) == 1


@pytest.mark.parametrize(
    ("batch_s", "wait_s", "waits_s"),
    [(0.02, 0.05, 0.005), (1.0, 0.05, 0.05), (0.02, 0.0, 0.0)],
    ids=["a quarter of the batch", "the limit", "never"],
)
def test_a_batch_stops_waiting_when_no_request_arrives(batch_s: float, wait_s: float, waits_s: float) -> None:
    traffic = after_batch(inside=2, batch_s=batch_s, wait_s=wait_s)
    assert traffic.wait_until_s(start_s=10.0, waiting=2) == pytest.approx(10 + waits_s)
    traffic.ready(now_s=10.002)
    assert traffic.wait_until_s(start_s=10.0, waiting=2) == pytest.approx(10 + min(0.002 + waits_s, 4 * waits_s))


def test_before_the_first_batch_the_limit_counts() -> None:
    traffic = Traffic(wait_s=0.05)
    traffic.arrive(now_s=1.0)
    assert traffic.wait_until_s(start_s=1.0, waiting=1) == pytest.approx(1.05)


def test_a_request_that_is_being_decoded_is_waited_for_longer_and_not_for_ever() -> None:
    traffic = after_batch(inside=3, batch_s=0.02)
    assert traffic.wait_until_s(start_s=10.0, waiting=2) == pytest.approx(10 + 4 * 0.005)
    traffic.ready(now_s=10.019)
    assert traffic.wait_until_s(start_s=10.0, waiting=2) == pytest.approx(10 + 4 * 0.005)
    # All are ready, the last one just now: no longer than that in all.
    assert traffic.wait_until_s(start_s=10.0, waiting=3) == pytest.approx(10 + 4 * 0.005)

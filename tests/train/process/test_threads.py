"""Which number of threads is taken."""

from __future__ import annotations

import pytest
import torch

from aweigh.train.process.threads import choose_threads, pick


@pytest.mark.parametrize(
    ("times_ms", "chosen"),
    [
        ({2: 5.0, 1: 9.0}, 2),
        ({2: 9.5, 1: 9.0}, 2),  # no gain on the trial, but no collapse either
        ({2: 99.0, 1: 9.0}, 1),
        ({16: 60.0, 8: 3.0, 4: 4.0, 2: 7.0, 1: 13.0}, 8),
        ({16: 90.0, 8: 80.0, 4: 70.0, 2: 60.0, 1: 9.0}, 1),
    ],
)
def test_the_largest_number_that_has_not_collapsed(times_ms: dict[int, float], chosen: int) -> None:
    assert pick(times_ms) == chosen


def test_what_is_asked_for_is_taken_without_a_trial() -> None:
    assert choose_threads(3) == (3, "as asked")


def test_the_trial_leaves_the_setting_alone() -> None:
    before = torch.get_num_threads()
    chosen, why = choose_threads()
    assert chosen >= 1
    assert why
    assert torch.get_num_threads() == before

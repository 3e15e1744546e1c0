"""How long a training will take, in its lines."""

from __future__ import annotations

import pytest

from aweigh.train.process import console
from aweigh.train.process.console import TrainingProgress, duration


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (90061, "25:01:01")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_what_is_left_goes_by_the_steps_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run: the steps before it took no time here."""
    clock = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with TrainingProgress(total=30, done=10) as progress:
        assert progress.left == ""
        clock[0] += 20
        progress.advance(15, 8, "")
        assert progress.left == "1:00 left"
        with progress.paused():
            clock[0] += 500
        clock[0] += 20
        progress.advance(20, 8, "")
        assert progress.left == "0:40 left"
        progress.advance(30, 8, "")
        assert progress.left == ""

"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

from rich.console import Console

from aweigh.runtime.cli.output import log_console, progress
from aweigh.train.process.processes import this_process

T = TypeVar("T")
_QUIET_SECONDS = 30.0


def console() -> Console:
    """The console for all messages, on stderr; only rank 0 prints."""
    return log_console(quiet=this_process().rank > 0)


def say(message: str) -> None:
    """One line on stderr."""
    console().print(message)


def track(items: Iterable[T], note: str, total: int) -> Iterator[T]:
    """Pass ``items`` through with a transient bar."""
    with progress(console(), detail=True) as bar:
        task = bar.add_task(note, total=total, detail="")
        for item in items:
            yield item
            bar.advance(task)


def duration(seconds: float) -> str:
    """A time for people, in hours, minutes and seconds.

    Example:
        >>> duration(75), duration(7384.6)
        ('1:15', '2:03:05')
    """
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class TrainingProgress:
    """The bar of a training run; where stderr is no terminal, a line every half minute.

    Use as a context manager. ``left`` is how long the steps that remain will take, without pauses, as words for a line;
    empty before the first step and after the last.
    """

    def __init__(self, total: int, done: int) -> None:
        self._progress = progress(console(), detail=True)
        self._task = self._progress.add_task("train", total=total, completed=done, detail="")
        self._total, self._begun_at = total, done
        self._spoken = self._started = time.monotonic()
        self._images = 0
        self._waited = 0.0
        self.left = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, iteration: int, images: int, losses: str) -> float:
        """Show a step of so many images; returns images per second since the start, pauses apart."""
        now = time.monotonic()
        self._images += images
        elapsed = max(1e-9, now - self._started)
        rate = self._images / elapsed
        left = duration(elapsed / max(1, iteration - self._begun_at) * (self._total - iteration))
        speed = f"{rate:.0f} images/s, waiting for data {self._waited / elapsed:.0%}"
        self.left = f"{left} left" if iteration < self._total else ""
        self._progress.update(self._task, completed=iteration, detail=f"{losses} {speed}")
        if not sys.stderr.isatty() and now - self._spoken > _QUIET_SECONDS:
            self._spoken = now
            say(f"train {iteration}/{self._total} {losses} {speed}, {self.left or 'done'}")
        return rate

    def waited(self, batches: Iterable[T]) -> Iterator[T]:
        """Pass ``batches`` through, and show how long each was waited for, except the first (workers start then)."""
        asked = None
        for batch in batches:
            if asked is not None:
                self._waited += time.monotonic() - asked
            yield batch
            asked = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of the block out of the rate."""
        before = time.monotonic()
        yield
        self._started += time.monotonic() - before

    def say(self, message: str) -> None:
        self._progress.console.print(message)

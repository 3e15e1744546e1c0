"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

T = TypeVar("T")
_QUIET_SECONDS = 30.0


def console() -> Console:
    """The console all messages go to; stdout is for results."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """One line on stderr."""
    console().print(message, markup=False)


def track(items: Iterable[T], note: str, total: int) -> Iterator[T]:
    """Pass ``items`` through with a transient bar."""
    with _progress() as progress:
        task = progress.add_task(note, total=total, detail="")
        for item in items:
            yield item
            progress.advance(task)


class TrainingProgress:
    """The bar of a training run; where stderr is no terminal, a line every half minute.

    Use as a context manager.
    """

    def __init__(self, total: int, done: int) -> None:
        self._progress = _progress()
        self._task = self._progress.add_task("train", total=total, completed=done, detail="")
        self._total = total
        self._spoken = time.monotonic()

    def __enter__(self) -> TrainingProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, iteration: int, detail: str) -> None:
        self._progress.update(self._task, completed=iteration, detail=detail)
        now = time.monotonic()
        if not sys.stderr.isatty() and now - self._spoken > _QUIET_SECONDS:
            self._spoken = now
            say(f"train {iteration}/{self._total} {detail}")

    def say(self, message: str) -> None:
        self._progress.console.print(message, markup=False)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
        console=console(),
        transient=True,
        disable=not sys.stderr.isatty(),
    )

"""Ctrl-C as the ordinary way to end a run that has no end of its own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def first_interrupt() -> Iterator[threading.Event]:
    """Yields an event that the first SIGINT or SIGTERM sets; a second one does what it did before the block.

    Signals belong to the main thread: in any other the event stays unset.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(number, before[number])

    for asking in (signal.SIGINT, signal.SIGTERM):
        before[asking] = signal.signal(asking, handle)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Ctrl-C, SIGTERM and the SIGHUP of a closed terminal, as a request to end after the step in progress."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def first_interrupt() -> Iterator[threading.Event]:
    """Within the block, the first SIGINT, SIGTERM or SIGHUP only sets the event; a second one acts as before the block.

    A SIGHUP that the process ignores, as nohup has it, stays ignored.

    Training uses it to end between two steps, because a step that is cut in half leaves weights that no uninterrupted
    run ever had; prediction uses it to complete the results of a camera.

    Python delivers signals to the main thread only: in any other the event stays unset and nothing changes.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        requested.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    for asking in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if asking is signal.SIGHUP and signal.getsignal(asking) is signal.SIG_IGN:
            continue
        before[asking] = signal.signal(asking, handle)
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""SIGTERM and SIGHUP as an exception, so that what is under way is undone as after Ctrl-C: temporary files removed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """Another program asked this process to end.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """As shells count it: 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.number


@contextmanager
def termination_unwinds() -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP raise Terminated in the main thread; a second one ends the process at once.

    A signal that the process ignores, as nohup has it, or that has a handler already, is left as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != owner:  # a forked worker has nothing of its own to undo
            signal.raise_signal(number)
        raise Terminated(number)

    taken = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)

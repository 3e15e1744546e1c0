"""SIGTERM and SIGHUP as an exception, so that what is under way is undone as after Ctrl-C: temporary files removed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

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


class Ending:
    """What asked a block to end.

    Attributes:
        asked: raised by the last signal; None where there was none. Libraries make errors of their own of it, or lose
            it within their compiled code: an error that comes after it is its consequence.
    """

    def __init__(self) -> None:
        self.asked: KeyboardInterrupt | None = None


@contextmanager
def termination_unwinds() -> Iterator[Ending]:
    """Within the block, SIGTERM and SIGHUP raise Terminated in the main thread; a second one ends the process at once.

    Yields what Ctrl-C too is recorded in. A signal that the process ignores, as nohup has it, or that has a handler
    already, is left as it is.
    """
    ending = Ending()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != owner:  # a forked worker has nothing of its own to undo
            signal.raise_signal(number)
        ending.asked = Terminated(number)
        raise ending.asked

    def interrupt(number: int, frame: FrameType | None) -> None:
        ending.asked = KeyboardInterrupt()
        raise ending.asked

    handlers: dict[int, tuple[Any, Any]] = {signal.SIGINT: (signal.default_int_handler, interrupt)}
    handlers |= dict.fromkeys(_ENDING, (signal.SIG_DFL, end))
    taken = {number: usual for number, (usual, _) in handlers.items() if signal.getsignal(number) is usual}
    for number in taken:
        signal.signal(number, handlers[number][1])
    try:
        yield ending
    finally:
        for number, usual in taken.items():
            signal.signal(number, usual)

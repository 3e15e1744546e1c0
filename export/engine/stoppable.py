"""Long work in native code that Ctrl-C still ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_POLL_S = 0.1


def run_stoppable(work: Callable[[], T], stop: threading.Event) -> T:
    """Run ``work`` in a thread of its own and return what it returns.

    Python handles a signal between two of its own instructions and in the main thread alone: one that waits inside a
    library for minutes would see Ctrl-C only afterwards. So the main thread waits here, sets ``stop`` when the
    interrupt comes, waits for ``work`` to notice and end, and passes the interrupt on.

    Raises:
        KeyboardInterrupt: it came; whatever ``work`` returned or raised is dropped.
        Exception: what ``work`` raised.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    worker = threading.Thread(target=run, name="aweigh-build", daemon=True)
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            if worker.ident is None:  # inside, for an interrupt may come as soon as the work has begun
                worker.start()
            while worker.is_alive():
                worker.join(_POLL_S)
            break
        except KeyboardInterrupt as error:
            interrupt = error
            stop.set()
    if interrupt is not None:
        raise interrupt
    if errors:
        raise errors[0]
    return results[0]

"""Admission: how many requests and bytes the server holds, and when it refuses more."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from aweigh.serve.problem import Problem, overloaded


class Admission:
    """The counts of one server, over all models and transports; used in the event loop only.

    Attributes:
        waiting: requests whose body is complete and whose batch has not begun.
        held_bytes: bodies and prepared images in memory.
        leaving: the server is stopping: it still answers, reports that it is not ready, and closes connections.
        draining: new requests are refused.
    """

    def __init__(self, queue_items: int, queue_bytes: int) -> None:
        self._queue_items = queue_items
        self._queue_bytes = queue_bytes
        self.waiting = 0
        self.held_bytes = 0
        self.leaving = False
        self.draining = False

    def ticket(self) -> Ticket:
        """A request's ticket, for a ``with``. Raises Problem 503 where the queue is full or the server is stopping."""
        self.require_room()
        return Ticket(self)

    def require_room(self) -> None:
        """Raises Problem 503 where the queue is full or the server is stopping."""
        if self.draining:
            raise overloaded("the server is stopping")
        self._require_place()

    def hold(self, more_bytes: int) -> None:
        """Count bytes. Raises Problem 503 above the limit."""
        if self.held_bytes + more_bytes > self._queue_bytes:
            raise overloaded(f"{self.held_bytes} bytes of requests are in memory; try again")
        self.held_bytes += more_bytes

    def wait(self) -> None:
        """Count a request that waits. Raises Problem 503 where the queue is full."""
        self._require_place()
        self.waiting += 1

    def _require_place(self) -> None:
        if self.waiting >= self._queue_items:
            raise overloaded(f"{self.waiting} requests are waiting, the limit; try again")


class Ticket:
    """What one request occupies; all of it is released at the end of the ``with``.

    A body that is still arriving holds bytes but no place in the queue: a slow sender does not block others.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._bytes = 0
        self._waits = False

    def hold(self, size_bytes: int) -> None:
        """Count the bytes that the request now holds, in place of those before. Raises Problem 503 above the limit."""
        self._admission.hold(size_bytes - self._bytes)
        self._bytes = size_bytes

    def enter(self) -> None:
        """Take a place in the queue: the body is complete. Raises Problem 503 where the queue is full."""
        if self._waits:
            raise Problem(500, "a request entered the queue twice")
        self._admission.wait()
        self._waits = True

    def begin(self) -> None:
        """Its batch begins, which frees its place in the queue."""
        if self._waits:
            self._waits = False
            self._admission.waiting -= 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.begin()
        self._admission.held_bytes -= self._bytes
        self._bytes = 0

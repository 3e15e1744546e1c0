"""A bounded queue between threads that both sides can end (queue.Queue cannot before Python 3.13)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """Nothing more goes in, or nothing more comes out."""


class Channel(Generic[T]):
    """First in, first out, at most ``capacity`` items; ``put`` waits while it is full."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False

    def put(self, item: T) -> None:
        """Wait for room and append. Raises Closed after ``finish`` or ``close``."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished or len(self._items) < self._capacity)
            if self._finished:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """Wait for an item and take it. Raises Closed where none is left and none can come."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished or self._items)
            if not self._items:
                raise Closed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def __iter__(self) -> Iterator[T]:
        """Take items until none can come."""
        while True:
            try:
                item = self.get()
            except Closed:
                return
            yield item
            del item

    def peek(self) -> T | None:
        """The item that ``get`` would give, left where it is; None where it would wait or raise."""
        with self._changed:
            return self._items[0] if self._items else None

    def finish(self) -> None:
        """Nothing more will be put; what is inside can still be taken."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Drop what is inside; every thread that waits gets Closed."""
        with self._changed:
            self._finished = True
            self._items.clear()
            self._changed.notify_all()

"""A queue of several clients, in which each has its turn: many images of one do not hold up the one of another."""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Peer(NamedTuple):
    """Where a request comes from: the other end of its connection."""

    host: str
    port: int


NOWHERE = Peer("", 0)


class FairQueue(Generic[T]):
    """Hosts take turns, and the connections of a host; within a connection the first comes first.

    Behind a proxy all connections are of one host, and take turns.

    Example:
        >>> queue: FairQueue[str] = FairQueue()
        >>> for item, peer in (("a1", Peer("a", 1)), ("a2", Peer("a", 1)), ("a3", Peer("a", 2)), ("b1", Peer("b", 1))):
        ...     queue.add(item, peer)
        >>> [queue.take() for _ in range(4)]
        ['a1', 'b1', 'a3', 'a2']
    """

    def __init__(self) -> None:
        # Host to port to what waits; the first of each is the next, and goes to the end when it had its turn.
        self._hosts: dict[str, dict[int, deque[T]]] = {}

    def __bool__(self) -> bool:
        return bool(self._hosts)

    def add(self, item: T, peer: Peer) -> None:
        self._hosts.setdefault(peer.host, {}).setdefault(peer.port, deque()).append(item)

    def take(self) -> T:
        """The next one. Raises IndexError where none waits."""
        if not self._hosts:
            raise IndexError("the queue is empty")
        host, ports = next(iter(self._hosts.items()))
        port, items = next(iter(ports.items()))
        item = items.popleft()
        del self._hosts[host], ports[port]
        if items:
            ports[port] = items
        if ports:
            self._hosts[host] = ports
        return item

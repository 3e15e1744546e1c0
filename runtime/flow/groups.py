"""Groups: decoded pictures handed over as they are, to a Finder that prepares them itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from aweigh.runtime.flow.batch import Decoded
from aweigh.runtime.flow.sources import Item


@dataclass(frozen=True)
class Waiting:
    """A decoded picture and its position in the stream, from 0."""

    position: int
    decoded: Decoded

    @property
    def item(self) -> Item:
        """What it was read from."""
        return self.decoded.item


@dataclass
class Group:
    """Pictures handed over together."""

    rows: list[Waiting] = field(default_factory=list)


class Grouper:
    """Puts a stream of pictures into groups of ``capacity``; see ``batch.Batcher``, whose place it takes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._open = Group()

    def add(self, position: int, decoded: Decoded) -> list[Group]:
        """Take a picture in; returns the group to run now, if any."""
        self._open.rows.append(Waiting(position, decoded))
        return self.flush() if len(self._open.rows) == self._capacity else []

    def flush(self) -> list[Group]:
        """The group begun."""
        full, self._open = self._open, Group()
        return [full] if full.rows else []

    def recycle(self, batch: Group) -> None:
        """Nothing of a group is used again."""

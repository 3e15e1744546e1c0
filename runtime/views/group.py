"""Groups: decoded images handed over as they are, where each is prepared several times."""

from __future__ import annotations

from dataclasses import dataclass, field

from aweigh.runtime.flow.batch import Decoded
from aweigh.runtime.flow.sources import Item
from aweigh.runtime.images.reading import ImageU8


@dataclass(frozen=True)
class Member:
    """One image of a group.

    Attributes:
        position: in the stream, from 0.
        decoded: the image to detect in.
        image: the same, where its result is to hold it.
    """

    position: int
    decoded: Decoded
    image: ImageU8 | None

    @property
    def item(self) -> Item:
        """What it was read from."""
        return self.decoded.item

    @property
    def speed_ms(self) -> dict[str, float]:
        """Milliseconds by stage, of the stages that are over."""
        return {"decode": self.decoded.decode_ms}


@dataclass
class Group:
    """Images handed over together."""

    rows: list[Member] = field(default_factory=list)


class GroupBuilder:
    """Puts a stream of images into groups of ``capacity``, as ``flow.batch.BatchBuilder`` puts them into batches."""

    def __init__(self, capacity: int, keep_image: bool | None = None) -> None:
        self._capacity = capacity
        self._keep_image = keep_image
        self._open = Group()

    def add(self, position: int, decoded: Decoded) -> list[Group]:
        """Take an image in; returns the group to run now, if any."""
        self._open.rows.append(Member(position, decoded, decoded.kept(self._keep_image)))
        return self.flush() if len(self._open.rows) == self._capacity else []

    def flush(self) -> list[Group]:
        """The group begun."""
        full, self._open = self._open, Group()
        return [full] if full.rows else []

    def recycle(self, batch: Group) -> None:
        """Nothing of a group is used again."""

"""Batches: decoded pictures resized into the rows of the array that the network takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from aweigh.runtime.flow.sources import Item
from aweigh.runtime.images.preprocess import Placement, placement, prepare
from aweigh.runtime.images.reading import ImageU8, read_image
from aweigh.runtime.spec import InputSpec

# Of buffers given back: one being filled, one waiting, one in the network.
_SPARE_BUFFERS = 3


@dataclass(frozen=True)
class Decoded:
    """A picture in memory and what reading it took."""

    item: Item
    image: ImageU8
    decode_ms: float


def decode(item: Item) -> Decoded:
    """Read the item's picture. Raises BadInput as ``media.read_image``."""
    start = time.perf_counter()
    image = read_image(item.picture, name=item.name)
    return Decoded(item, image, (time.perf_counter() - start) * 1e3)


@dataclass
class Row:
    """One picture of a batch.

    Attributes:
        position: in the stream, from 0.
        image: the picture; None where it is not kept, so that its memory goes as soon as it is prepared.
        speed_ms: by stage, as far as they are over.
    """

    position: int
    item: Item
    where: Placement
    image: ImageU8 | None
    speed_ms: dict[str, float]


@dataclass
class Batch:
    """Prepared pictures of one network input size.

    Attributes:
        images_u8: [capacity, h, w, 3] RGB; the first ``len(rows)`` are pictures.
    """

    images_u8: npt.NDArray[np.uint8]
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def empty(cls, input_hw: tuple[int, int], capacity: int) -> Batch:
        """A batch without pictures and room for ``capacity``."""
        return cls(np.empty((capacity, *input_hw, 3), np.uint8))

    def add(
        self, position: int, decoded: Decoded, where: Placement, spec: InputSpec, keep_image: bool | None = None
    ) -> None:
        """Resize a picture into the next row.

        Args:
            keep_image: leave the picture with the row; None: where it cannot be read again.
        """
        start = time.perf_counter()
        prepare(decoded.image, spec, out=self.images_u8[len(self.rows)])
        speed_ms = {"decode": decoded.decode_ms, "preprocess": (time.perf_counter() - start) * 1e3}
        keep = not decoded.item.is_file if keep_image is None else keep_image
        self.rows.append(Row(position, decoded.item, where, decoded.image if keep else None, speed_ms))

    def padded(self, smallest: int, pad_value: int) -> npt.NDArray[np.uint8]:
        """The pictures [B, h, w, 3]; below the smallest batch that the file takes, filled up with plain ones."""
        count = max(len(self.rows), smallest)
        self.images_u8[len(self.rows) : count] = pad_value
        return self.images_u8[:count]


class Batcher:
    """Puts a stream of pictures into batches, each of one network input size, by the order of the stream alone.

    Where the input follows the picture's shape several batches are open at once. One whose first picture lies
    ``4 * capacity`` positions back goes as it is, so that neither memory nor waiting grows with the stream.
    """

    def __init__(self, spec: InputSpec, capacity: int, smallest: int, keep_image: bool | None = None) -> None:
        self._spec = spec
        self._capacity = capacity
        self._rows = max(capacity, smallest)
        self._keep_image = keep_image
        self._open: dict[tuple[int, int], Batch] = {}
        self._spare: list[npt.NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def add(self, position: int, decoded: Decoded) -> list[Batch]:
        """Take a picture in; returns the batches to run now. Raises BadInput as ``preprocess.prepare``."""
        where = placement((decoded.image.shape[0], decoded.image.shape[1]), self._spec)
        batch = self._open.get(where.input_hw)
        if batch is None:
            batch = self._open[where.input_hw] = self._new(where.input_hw)
        batch.add(position, decoded, where, self._spec, self._keep_image)
        return self._take(
            lambda b: len(b.rows) == self._capacity or b.rows[0].position <= position - 4 * self._capacity
        )

    def flush(self) -> list[Batch]:
        """The batches begun, oldest first."""
        return self._take(lambda batch: True)

    def recycle(self, batch: Batch) -> None:
        """Give a batch's buffer back after its run; any thread may."""
        with self._lock:
            self._spare.append(batch.images_u8)
            del self._spare[:-_SPARE_BUFFERS]

    def _new(self, input_hw: tuple[int, int]) -> Batch:
        with self._lock:
            for i, buffer in enumerate(self._spare):
                if buffer.shape[1:3] == input_hw:
                    return Batch(self._spare.pop(i))
        return Batch.empty(input_hw, self._rows)

    def _take(self, chosen: Callable[[Batch], bool]) -> list[Batch]:
        taken = [batch for batch in self._open.values() if chosen(batch)]
        for batch in taken:
            del self._open[batch.images_u8.shape[1:3]]
        return taken

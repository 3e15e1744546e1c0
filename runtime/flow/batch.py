"""Batches: decoded images resized into the rows of the array that the network takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from aweigh.runtime.device_images.image import DeviceImage
from aweigh.runtime.flow.sources import Item
from aweigh.runtime.images.preprocess import Placement, placement, resize_into
from aweigh.runtime.images.reading import ImageU8, read_image
from aweigh.runtime.network import ImagesU8, fill_batch
from aweigh.runtime.spec import InputSpec, ModelSpec

# Of buffers given back: one being filled, one waiting, one in the network.
_SPARE_BUFFERS = 3


@dataclass(frozen=True)
class Decoded:
    """An image in memory, that of the host or of the device, and what reading it took."""

    item: Item
    image: ImageU8 | DeviceImage
    decode_ms: float

    @property
    def on_host(self) -> ImageU8:
        """The image, copied from the device where it lies there."""
        return self.image.on_host() if isinstance(self.image, DeviceImage) else self.image

    def kept(self, keep_image: bool | None) -> ImageU8 | None:
        """The image, where its result is to hold it. ``keep_image`` None: where it cannot be read again."""
        keep = not self.item.is_file if keep_image is None else keep_image
        return self.on_host if keep else None


def decode(item: Item) -> Decoded:
    """Read the item's image. Raises BadInput as ``images.reading.read_image``."""
    start = time.perf_counter()
    image = read_image(item.source, name=item.name)
    return Decoded(item, image, (time.perf_counter() - start) * 1e3)


@dataclass
class Row:
    """One image of a batch.

    Attributes:
        position: in the stream, from 0.
        image: the image; None where it is not kept, so that its memory is freed as soon as it is prepared.
        speed_ms: milliseconds by stage, of the stages that are over.
    """

    position: int
    item: Item
    where: Placement
    image: ImageU8 | None
    speed_ms: dict[str, float]


class Preparation(Protocol):
    """How images get into the memory that the network reads: ``OnHost``, or ``device_images.preparation.OnDevice``."""

    def room(self, rows: int, input_hw: tuple[int, int]) -> Any:
        """Memory for a batch, whose ``shape`` is [rows, h, w, 3]."""

    def resize(self, room: Any, row: int, image: Any, where: Placement, spec: InputSpec) -> None:
        """Write the network input of one image into a row."""

    def filled(self, room: Any, spec: ModelSpec, count: int) -> Any:
        """The first ``count`` images as the network takes them, filled up to the smallest batch of the file."""


class OnHost:
    """Batches in arrays, resized by OpenCV."""

    def room(self, rows: int, input_hw: tuple[int, int]) -> ImagesU8:
        """[rows, h, w, 3] uint8, of any content."""
        return np.empty((rows, *input_hw, 3), np.uint8)

    def resize(self, room: ImagesU8, row: int, image: ImageU8, where: Placement, spec: InputSpec) -> None:
        """As ``preprocess.resize_into``."""
        resize_into(room[row], image, where, spec)

    def filled(self, room: ImagesU8, spec: ModelSpec, count: int) -> ImagesU8:
        """As ``network.fill_batch``."""
        return fill_batch(room, spec, count)


@dataclass
class Batch:
    """Prepared images of one network input size.

    Attributes:
        images_u8: [capacity, h, w, 3] RGB, memory of ``preparation``; the first ``len(rows)`` are images.
    """

    images_u8: Any
    preparation: Preparation = field(default_factory=OnHost)
    rows: list[Row] = field(default_factory=list)

    def add(
        self, position: int, decoded: Decoded, where: Placement, spec: InputSpec, keep_image: bool | None = None
    ) -> None:
        """Resize an image into the next row.

        Args:
            keep_image: leave the image with the row; None: where it cannot be read again.
        """
        start = time.perf_counter()
        self.preparation.resize(self.images_u8, len(self.rows), decoded.image, where, spec)
        speed_ms = {"decode": decoded.decode_ms, "preprocess": (time.perf_counter() - start) * 1e3}
        self.rows.append(Row(position, decoded.item, where, decoded.kept(keep_image), speed_ms))

    def filled(self, spec: ModelSpec) -> Any:
        """The images [B, h, w, 3], filled up to the smallest batch that the file takes."""
        return self.preparation.filled(self.images_u8, spec, len(self.rows))


class BatchBuilder:
    """Puts a stream of images into batches, each of one network input size, in the order of the stream.

    Where the input follows the image's shape several batches are open at once. One whose first image lies
    ``4 * capacity`` positions back is run as it is, so that neither memory nor waiting grows with the stream.
    """

    def __init__(
        self,
        spec: ModelSpec,
        capacity: int,
        keep_image: bool | None = None,
        preparation: Preparation | None = None,
    ) -> None:
        """``preparation`` None: on the host."""
        self._preparation = preparation or OnHost()
        self._spec = spec.input
        self._capacity = capacity
        self._rows = max(capacity, spec.batch[0])
        self._keep_image = keep_image
        self._open: dict[tuple[int, int], Batch] = {}
        self._spare: list[Any] = []
        self._lock = threading.Lock()

    def add(self, position: int, decoded: Decoded) -> list[Batch]:
        """Take an image in; returns the batches to run now. Raises BadInput as ``preprocess.prepare``."""
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
                    return Batch(self._spare.pop(i), self._preparation)
        return Batch(self._preparation.room(self._rows, input_hw), self._preparation)

    def _take(self, chosen: Callable[[Batch], bool]) -> list[Batch]:
        taken = [batch for batch in self._open.values() if chosen(batch)]
        for batch in taken:
            del self._open[batch.images_u8.shape[1:3]]
        return taken

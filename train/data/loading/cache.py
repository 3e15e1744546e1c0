"""Decoded images kept ready, in memory or in a file: what ``read_image`` returns, so training sees no difference.

Full images are kept, for the random window of the augmentation may show any part at any scale.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import shutil
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.machine.facts import available_cores, free_memory_bytes
from aweigh.train.data.records import ImageRecord, read_record

CacheKind: TypeAlias = Literal["none", "ram", "disk"]

_CHECKED = 4  # images of a file that is found, first and last among them
_MEMORY_SHARE = 0.8  # of what is free; the rest is for the training itself


class _File:
    """An open file, not to be written to. Its descriptor goes with the object."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._facts = self._now()

    @property
    def size_bytes(self) -> int:
        return self._facts[0]

    def read(self, start: int, shape: tuple[int, ...]) -> npt.NDArray[np.uint8] | None:
        """Bytes from ``start`` on; None where the file was cut or written to since it was opened."""
        array = np.empty(shape, np.uint8)
        view, done = array.reshape(-1).data, 0
        while done < array.nbytes:
            count = os.preadv(self._descriptor, [view[done:]], start + done)
            if count == 0:
                return None
            done += count
        return array if self._now() == self._facts else None

    def _now(self) -> tuple[int, int]:
        facts = os.fstat(self._descriptor)
        return facts.st_size, facts.st_mtime_ns


class ImageCache:
    """All images of a split, decoded, one behind the other.

    ``ram`` is anonymous memory shared with forked workers, gone with the last process. ``disk`` is a file that appears
    whole or not at all, is named by the images' paths, sizes and times, and is found again by the next run. It is read,
    not mapped: where another process cut a mapped file, a look at it would end the training with SIGBUS.
    """

    def __init__(self, records: Sequence[ImageRecord], kind: Literal["ram", "disk"], cache_dir: Path | None = None):
        """Decode every image once.

        Raises:
            BadInput: an image cannot be decoded, or ``disk`` without a ``cache_dir``.
            CannotRun: the images do not fit.
        """
        self._records = records
        sizes = [record.size_hw[0] * record.size_hw[1] * 3 for record in records]
        self._offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self.total_bytes = int(self._offsets[-1])
        if kind == "ram":
            _require("memory", free_memory_bytes() * _MEMORY_SHARE, self.total_bytes, "use --cache disk or none")
            memory = np.frombuffer(mmap.mmap(-1, self.total_bytes), np.uint8)
            for start, image in self._decoded():
                memory[start : start + image.size] = image
            self._place: npt.NDArray[np.uint8] | _File = memory
        else:
            if cache_dir is None:
                raise BadInput("an image cache on disk needs a folder to lie in")
            self._place = self._file(cache_dir)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        """RGB uint8 [H, W, 3], not to be written to: it may be a view.

        Where the file was cut or written to since it was opened, the image is decoded again. Raises BadInput where that
        fails.
        """
        record, start = self._records[index], int(self._offsets[index])
        if isinstance(self._place, np.ndarray):
            return self._place[start : int(self._offsets[index + 1])].reshape(*record.size_hw, 3)
        image = self._place.read(start, (*record.size_hw, 3))
        return read_record(record) if image is None else image

    def _decoded(self) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Each image as one row, and where it begins."""

        def decode(index: int) -> tuple[int, npt.NDArray[np.uint8]]:
            return int(self._offsets[index]), np.ascontiguousarray(read_record(self._records[index])).reshape(-1)

        threads = available_cores()
        with ThreadPoolExecutor(threads) as pool:
            for first in range(0, len(self._records), 4 * threads):  # the rest waits, for they fill memory
                yield from pool.map(decode, range(first, min(first + 4 * threads, len(self._records))))

    def _file(self, cache_dir: Path) -> _File:
        path = cache_dir / f"pictures-{self._key()}.u8"
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _locked(cache_dir / ".pictures.lock"):  # of several processes one decodes, the others find its file
            if not path.is_file() or not self._is_whole(_File(path)):
                _require(f"disk {cache_dir}", shutil.disk_usage(cache_dir).free, self.total_bytes, "use --cache none")
                for left_over in cache_dir.glob(".pictures-*.u8"):  # of a run that was killed
                    left_over.unlink()
                with atomic_write(path) as temporary, temporary.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, self.total_bytes)  # a full disk shows before the work
                    for start, image in self._decoded():
                        file.seek(start)
                        file.write(image.data)
            return _File(path)

    def _is_whole(self, file: _File) -> bool:
        """Whether a file of an earlier run has the size, and a few of its images are those in the data set."""
        count = len(self._records)
        some = {i * (count - 1) // max(1, _CHECKED - 1) for i in range(_CHECKED)} if count else set()
        if file.size_bytes != self.total_bytes:
            return False
        records = {int(self._offsets[i]): self._records[i] for i in some}
        for start, record in records.items():
            image = file.read(start, (*record.size_hw, 3))
            if image is None or not np.array_equal(image, read_record(record)):
                return False
        return True

    def _key(self) -> str:
        content = hashlib.sha256(f"1 {cv2.__version__}".encode())
        for record in self._records:
            facts = record.path.stat()
            content.update(f"{record.path.resolve()} {facts.st_size} {facts.st_mtime_ns} {record.size_hw}\n".encode())
        return content.hexdigest()[:32]


def _require(place: str, free_bytes: float, needed_bytes: int, advice: str) -> None:
    if needed_bytes > free_bytes:
        needed, free = f"{needed_bytes / 1e9:.2f} GB", f"{free_bytes / 1e9:.2f} GB"
        raise CannotRun(f"image cache: needs {needed}, {place} has {free} to spare; {advice}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

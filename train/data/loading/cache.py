"""Decoded images kept ready, in memory or in a file: what ``read_image`` returns, so training sees no difference.

Full images are kept, for the random window of the augmentation may show any part at any scale.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import shutil
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

_MEMORY_SHARE = 0.8  # of what is free; the rest is for the training itself


class ImageCache:
    """All images of a split, decoded, one behind the other.

    ``ram`` is anonymous memory shared with forked workers, gone with the last process. ``disk`` is a memory-mapped file
    that appears whole or not at all, is named by the files' paths, sizes and times, and is found again by the next run.
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
            self._bytes: npt.NDArray[np.uint8] = np.frombuffer(mmap.mmap(-1, self.total_bytes), np.uint8)
            self._fill(self._bytes)
        else:
            if cache_dir is None:
                raise BadInput("an image cache on disk needs a folder to lie in")
            self._bytes = self._file(cache_dir)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        """RGB uint8 [H, W, 3]; a view, not to be written to."""
        height, width = self._records[index].size_hw
        return self._bytes[self._offsets[index] : self._offsets[index + 1]].reshape(height, width, 3)

    def _fill(self, target: npt.NDArray[np.uint8]) -> None:
        def decode(index: int) -> None:
            target[self._offsets[index] : self._offsets[index + 1]] = read_record(self._records[index]).reshape(-1)

        with ThreadPoolExecutor(available_cores()) as pool:
            for _ in pool.map(decode, range(len(self._records))):
                pass

    def _file(self, cache_dir: Path) -> npt.NDArray[np.uint8]:
        path = cache_dir / f"pictures-{self._key()}.u8"
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _locked(cache_dir / ".pictures.lock"):  # of several processes one decodes, the others find its file
            if not path.is_file() or path.stat().st_size != self.total_bytes:
                _require(f"disk {cache_dir}", shutil.disk_usage(cache_dir).free, self.total_bytes, "use --cache none")
                for left_over in cache_dir.glob(".pictures-*.u8"):  # of a run that was killed
                    left_over.unlink()
                with atomic_write(path) as temporary:
                    with temporary.open("wb") as file:
                        # Room is taken first: a mapped file that meets a full disk kills the process with SIGBUS.
                        os.posix_fallocate(file.fileno(), 0, self.total_bytes)
                    self._fill(np.memmap(temporary, np.uint8, mode="r+"))
        return np.memmap(path, np.uint8, mode="r")

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
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

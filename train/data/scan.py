"""The first look at every image file: is it there, how large is it, is its end there. Decodes only where it must."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.header import MAX_PIXELS, read_header
from aweigh.runtime.images.reading import read_image
from aweigh.train.process.console import track

_HEAD_BYTES = 1 << 16  # an EXIF block, thumbnail included, is no longer
_TAIL_BYTES = 1 << 10
_THREADS = 8  # the work is waiting for the disk


@dataclass(frozen=True)
class ImageFacts:
    """``size_hw`` is that of the array ``read_image`` will return; ``turned``: EXIF swapped height and width."""

    size_hw: tuple[int, int]
    file_bytes: int
    turned: bool = False


def scan_images(paths: Sequence[Path], decode: bool = False) -> list[ImageFacts | str]:
    """Facts of each image, or why it cannot be used.

    Args:
        decode: decode every image in full. Without it, the header and the end marker are looked at, which finds
            missing, empty and cut-off files and costs some 50 us a file; damage in the middle stays unseen.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        scanned = pool.map(_decoded if decode else _facts, paths, chunksize=64)
        return list(track(scanned, "look at the images", total=len(paths)))


def _decoded(path: Path) -> ImageFacts | str:
    try:
        height, width, _ = read_image(path).shape
        with path.open("rb") as file:
            header = read_header(file.read(_HEAD_BYTES))
        turned = header is not None and header.orientation >= 5
        return ImageFacts((height, width), path.stat().st_size, turned)
    except BadInput as error:
        return str(error)


def _facts(path: Path) -> ImageFacts | str:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            file_bytes = os.fstat(file.fileno()).st_size
            header = read_header(head)
            if header is None:
                complete = False
            elif file_bytes <= len(head):
                complete = header.complete
            elif header.format == "JPEG" and not header.progressive:
                file.seek(-_TAIL_BYTES, os.SEEK_END)
                complete = b"\xff\xd9" in file.read()
            else:
                header = read_header(head + file.read())
                complete = header is not None and header.complete
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return _decoded(path)  # it words the reason
    # What looks odd is decoded: the decoder has the last word. So are animations, of which damage is likelier, and
    # TIFFs, which OpenCV turns by a tag of their own.
    odd = header is None or not complete or header.fault or not 0 < header.width * header.height <= MAX_PIXELS
    if header is None or odd or header.several or header.format == "TIFF":
        return _decoded(path)
    size_hw = (header.height, header.width)
    turned = header.orientation >= 5
    return ImageFacts(size_hw[::-1] if turned else size_hw, file_bytes, turned)

"""Sources: the images of a path, a folder, a pattern, a video, a camera or an address, one by one."""

from __future__ import annotations

import glob
import os
import re
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.failure import Failure
from aweigh.runtime.images.listing import list_images
from aweigh.runtime.images.reading import VIDEO_SUFFIXES, Source
from aweigh.runtime.video.reading import POLL_S, FrameLimits, read_live, read_video

# One element of a stream: an image as ``images.reading.read_image`` takes it, a folder, a pattern, a video, an address,
# or the number of a camera.
StreamSource: TypeAlias = Source | int

_END = object()
_LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "http", "https", "udp", "srt"})


@dataclass(frozen=True, slots=True)
class Item:
    """One image or frame of a source.

    Attributes:
        source: what ``images.reading.read_image`` takes.
        path: the file or the name of the camera or stream; None for images from memory.
        frame: number of the frame in its video or live source, from 0.
        time_s: of the frame: in the video, or since the live source's first frame.
        at_hand: the next one is available without waiting, so that a batch may wait for it.
        delivered: set when the caller has its result: until then a live source drops frames.
    """

    source: Source
    path: str | None = None
    frame: int | None = None
    time_s: float | None = None
    at_hand: bool = True
    delivered: threading.Event | None = None

    @classmethod
    def of(cls, source: Source) -> Item:
        """A single image; not a folder or a video."""
        return cls(source, os.fspath(source) if isinstance(source, (str, os.PathLike)) else None)

    @property
    def is_file(self) -> bool:
        """Whether the image can be read again by ``path``."""
        return self.path is not None and self.frame is None

    @property
    def name(self) -> str | None:
        """For messages."""
        return self.path if self.frame is None else f"{self.path}, frame {self.frame}"


class Stop(threading.Event):
    """Set to end the reading of sources.

    Attributes:
        in_callers_code: the reading thread is inside the iterable it was given, where nothing can wake it.
    """

    in_callers_code = False


def is_single(sources: Any) -> bool:
    """Whether this is one source, and no iterable of them."""
    single = (str, bytes, bytearray, memoryview, os.PathLike, int, np.integer, np.ndarray)
    return isinstance(sources, single) or (hasattr(sources, "convert") and hasattr(sources, "mode"))


def is_live(source: StreamSource) -> TypeGuard[int | str]:
    """A camera or a stream over the network: it does not wait for its reader."""
    if isinstance(source, (int, np.integer)):
        return True
    if not isinstance(source, str) or "://" not in source:
        return False
    return urlsplit(source).scheme in _LIVE_SCHEMES and not _is_video_name(urlsplit(source).path)


def is_video(source: StreamSource) -> TypeGuard[str | os.PathLike[str]]:
    """A video file, by the ending of its name; of an http address too."""
    if not isinstance(source, (str, os.PathLike)):
        return False
    name = os.fspath(source)
    return isinstance(name, str) and _is_video_name(urlsplit(name).path if is_address(name) else name)


def named_source(text: str) -> str | int:
    """A source as the command line names it: digits are the number of a camera, unless a file has that name."""
    return int(text) if re.fullmatch(r"\d{1,4}", text) and not os.path.exists(text) else text


def source_name(source: StreamSource) -> str | None:
    """How results and messages call a source: the path, the address without its password, ``camera:0``; None for a
    image from memory.
    """
    if isinstance(source, (int, np.integer)):
        return f"camera:{source}"
    if isinstance(source, str) and is_address(source):
        parts = urlsplit(source)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


def open_sources(sources: Any, limits: FrameLimits, stop: Stop) -> Generator[Item | Failure, None, None]:
    """The images of one source or an iterable of them, read as they are asked for.

    Args:
        sources: one StreamSource or an iterable of them.
        limits: of videos and live sources.
        stop: once it is set, a live source ends within a tenth of a second, though no frame come.

    Raises:
        BadInput: no source and no iterable; what cannot be read is yielded as a Failure in its place.
    """
    if is_single(sources):
        sources = [sources]
    elif not isinstance(sources, Iterable):
        raise BadInput(f"sources: expected a path, an image, a camera's number or several, got {sources!r}")
    at_hand = isinstance(sources, (list, tuple))
    following = iter(sources)
    while True:
        stop.in_callers_code = True
        source = next(following, _END)
        stop.in_callers_code = False
        if source is _END:
            return
        try:
            yield from _expand(source, limits, stop, at_hand)
        except BadInput as error:
            yield Failure(source_name(source), error)


def _expand(source: StreamSource, limits: FrameLimits, stop: Stop, at_hand: bool) -> Iterator[Item]:
    if is_live(source):
        name = source_name(source) or ""
        for frame in read_live(source, name, limits, stop):
            delivered = None if limits.every_frame else threading.Event()
            yield Item(frame.image_rgb_u8, name, frame.index, frame.time_s, at_hand=False, delivered=delivered)
            while delivered is not None and not stop.is_set() and not delivered.wait(POLL_S):
                pass
    elif isinstance(source, (str, os.PathLike)):
        for path in [source] if is_address(source) else _files(source):
            if is_video(path):
                yield from _video_items(path, limits, at_hand)
            elif is_address(path):
                scheme = urlsplit(os.fspath(path)).scheme
                expected = ", ".join(sorted(_LIVE_SCHEMES))
                raise BadInput(f"{source_name(path)}: cannot read {scheme}://; expected one of {expected}, or a path")
            else:
                yield replace(Item.of(path), at_hand=at_hand)
    else:
        yield Item(source, at_hand=at_hand)


def _video_items(path: str | os.PathLike[str], limits: FrameLimits, at_hand: bool) -> Iterator[Item]:
    name = source_name(path) or ""
    for frame in read_video(path, name, limits):
        yield Item(frame.image_rgb_u8, name, frame.index, frame.time_s, at_hand)


def _files(source: str | os.PathLike[str]) -> list[str | os.PathLike[str]]:
    path = Path(source)
    if path.is_dir() or (glob.has_magic(os.fspath(source)) and not path.exists()):
        return [*list_images(source, videos=True)]
    return [source]


def is_address(source: str | os.PathLike[str]) -> TypeGuard[str]:
    """``scheme://...``, and no file of that name."""
    return isinstance(source, str) and "://" in source and not os.path.exists(source)


def _is_video_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES

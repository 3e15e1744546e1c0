"""Finder: what turns pictures into Detections, be it a Detector or one that looks at each picture several times."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any, TypeAlias, overload

import numpy.typing as npt

from aweigh.runtime.flow.confidence import AskedConf, Conf, checked
from aweigh.runtime.flow.failure import Failure, OnError, failure_handler, raise_failure
from aweigh.runtime.flow.sources import Item, Stop, open_sources
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.spec import ModelSpec
from aweigh.runtime.video.reading import FrameLimits

OpenItems: TypeAlias = Callable[[Stop], Generator[Item | Failure, None, None]]


class Finder(ABC):
    """One way to call them all; a subclass says how one picture and how many go through."""

    @property
    @abstractmethod
    def spec(self) -> ModelSpec:
        """The contract of the file."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """How many pictures of a list are worth handing over at once."""

    @property
    def names(self) -> dict[int, str]:
        """Category id to name."""
        return self.spec.names

    @overload
    def __call__(
        self, source: str | bytes | os.PathLike[str] | npt.NDArray[Any], conf: AskedConf | None = None
    ) -> Detections: ...
    @overload
    def __call__(self, source: list[Any] | tuple[Any, ...], conf: AskedConf | None = None) -> list[Detections]: ...
    @overload  # a PIL image, whose type is not to be had without Pillow
    def __call__(self, source: Any, conf: AskedConf | None = None) -> Detections: ...

    def __call__(self, source: Any, conf: AskedConf | None = None) -> Detections | list[Detections]:
        """Detect in one picture or in a list of them.

        Args:
            source: a path, the bytes of a picture file, an RGB array ([H, W, 3] uint8), a PIL image, or a list or tuple
                of these. A list goes through in batches of what the file takes; where the network input follows the
                picture's shape, only equal shapes share one. A batch below the smallest that the file takes is filled
                up with grey, which is computed and thrown away.
            conf: only scores strictly above it; 0 to 1. A mapping gives each category id its own; ``best`` takes
                those that training found best. The file's own threshold is a floor, for what lies below it was never
                computed.

        Returns:
            Detections, best first; for a list, a list in its order.

        Raises:
            BadInput: an unreadable picture, or ``conf`` below the file's threshold or outside 0 to 1.
            CheckFailed: the matrix form of NMS did not settle.
        """
        floor = checked(conf, self.spec)
        if not isinstance(source, (list, tuple)):
            return self._one(Item.of(source), floor)
        if len(source) == 1:
            return [self._one(Item.of(source[0]), floor)]
        capacity = min(len(source), self.batch_size)
        return list(self._all(lambda stop: (Item.of(picture) for picture in source), floor, capacity))

    def stream(
        self,
        sources: Any,
        conf: AskedConf | None = None,
        *,
        on_error: OnError = "stop",
        keep_images: bool | None = None,
        max_frames: int | None = None,
        max_seconds: float | None = None,
        every_frame: bool = False,
    ) -> Generator[Detections, None, None]:
        """Detect in a stream of pictures, reading and preparing the next ones while the network is busy.

        Order is kept, memory bounded: at most some batches are under way, however long the stream. Pictures of a list,
        folder, pattern or video file go through in full batches. Those of any other iterable and of live sources go as
        soon as the network is free, alone or with what has come in the meantime. All threads end when the iterator is
        exhausted, closed or collected, so ``break`` ends them, at the latest after the batch in the network; a thread
        inside an iterable of your own that does not give its next element ends at that element.

        Args:
            sources: one source or an iterable of them, read as it is needed and in another thread. A source is a path,
                the bytes of a picture file, an array, a PIL image (see ``__call__``), a folder or glob pattern (its
                pictures and videos), a video file, the number of a camera, or an address such as ``rtsp://...``.
            conf: as for a single picture.
            on_error: what a source or picture that cannot be read does: ``stop`` raises its error, ``skip`` logs a
                warning and goes on, and so does a function, which is given the Failure in its place in the order.
            keep_images: give each result its picture (``Detections.image``); None: where it cannot be read again, that
                is, of frames and pictures from memory.
            max_frames: of each video and live source.
            max_seconds: of each video and live source.
            every_frame: of a live source. By default the newest frame is taken once you have the result before it,
                and what came in between is dropped, so that results do not lag behind; ``frame`` counts those too.

        Yields:
            Detections with ``path`` (the file, the address without its password, or ``camera:N``) and, of videos and
            live sources, ``frame`` and ``time_s``.

        Raises:
            BadInput: ``conf`` or a limit out of range, at once; an unreadable source or picture, with ``stop``.
            CheckFailed: the matrix form of NMS did not settle.
            Exception: what an iterable of your own raises, after the results before it.
        """
        floor = checked(conf, self.spec)
        limits = FrameLimits(max_frames, max_seconds, every_frame)
        on_failure = failure_handler(on_error)
        return self._all(
            lambda stop: open_sources(sources, limits, stop), floor, self.batch_size, on_failure, keep_images
        )

    @abstractmethod
    def _one(self, item: Item, conf: Conf | None) -> Detections:
        """One picture; ``conf`` is checked already."""

    @abstractmethod
    def _all(
        self,
        items: OpenItems,
        conf: Conf | None,
        capacity: int,
        on_failure: Callable[[Failure], None] = raise_failure,
        keep_images: bool | None = None,
    ) -> Generator[Detections, None, None]:
        """Many, see ``stream.detect_all``."""

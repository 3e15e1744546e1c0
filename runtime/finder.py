"""Finder: what turns pictures into Detections, be it a Detector or one that looks at each picture several times."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Protocol, overload

import numpy.typing as npt

from aweigh.runtime.detections import Detections
from aweigh.runtime.failure import OnError, failure_handler
from aweigh.runtime.media import ImageU8, read_image
from aweigh.runtime.sources import open_sources
from aweigh.runtime.spec import ModelSpec
from aweigh.runtime.stream import detect_all_apart
from aweigh.runtime.video import FrameLimits


class Finder(Protocol):
    """A Detector, and what wraps one."""

    @property
    def spec(self) -> ModelSpec:
        """The contract of the file."""

    @property
    def batch_size(self) -> int:
        """How many pictures of a list are worth handing over at once."""

    def __call__(self, source: Any, conf: float | None = None) -> Any:
        """Detections of one picture, or a list of them; see ``Detector.__call__``."""

    def stream(
        self,
        sources: Any,
        conf: float | None = None,
        *,
        on_error: OnError = "stop",
        keep_images: bool | None = None,
        max_frames: int | None = None,
        max_seconds: float | None = None,
        every_frame: bool = False,
    ) -> Generator[Detections, None, None]:
        """Detections of a stream of pictures; see ``Detector.stream``."""


class Wrapper(ABC):
    """A Finder made of another one."""

    def __init__(self, inner: Finder) -> None:
        self.inner = inner

    @property
    def spec(self) -> ModelSpec:
        """The contract of the file."""
        return self.inner.spec

    @property
    def names(self) -> dict[int, str]:
        """Category id to name."""
        return self.spec.names

    @property
    def batch_size(self) -> int:
        """How many pictures of a list are read before the first is detected in."""
        return self.inner.batch_size

    @overload
    def __call__(
        self, source: str | bytes | os.PathLike[str] | npt.NDArray[Any], conf: float | None = None
    ) -> Detections: ...
    @overload
    def __call__(self, source: list[Any] | tuple[Any, ...], conf: float | None = None) -> list[Detections]: ...
    @overload  # a PIL image, whose type is not to be had without Pillow
    def __call__(self, source: Any, conf: float | None = None) -> Detections: ...

    def __call__(self, source: Any, conf: float | None = None) -> Detections | list[Detections]:
        """Detect in one picture or in a list of them; arguments, result and errors as of ``Detector``.

        Of the ``speed`` of the result, preprocess, network and postprocess are sums over all that was looked at, and
        postprocess holds the merging too.
        """
        if not isinstance(source, (list, tuple)):
            return self._read_and_detect([source], conf)[0]
        found: list[Detections] = []
        for start in range(0, len(source), self.batch_size):
            found += self._read_and_detect(source[start : start + self.batch_size], conf)
        return found

    def stream(
        self,
        sources: Any,
        conf: float | None = None,
        *,
        on_error: OnError = "stop",
        keep_images: bool | None = None,
        max_frames: int | None = None,
        max_seconds: float | None = None,
        every_frame: bool = False,
    ) -> Generator[Detections, None, None]:
        """Detect in a stream of pictures; arguments, results and errors as of ``Detector.stream``.

        Reading and decoding go on while pictures are detected in, ``batch_size`` of them at a time.
        """
        limits = FrameLimits(max_frames, max_seconds, every_frame)
        return detect_all_apart(
            lambda images: self._detect(images, conf),
            lambda stop: open_sources(sources, limits, stop),
            self.batch_size,
            failure_handler(on_error),
            keep_images,
        )

    def _read_and_detect(self, sources: Sequence[Any], conf: float | None) -> list[Detections]:
        images: list[ImageU8] = []
        decode_ms: list[float] = []
        for source in sources:
            start = time.perf_counter()
            images.append(read_image(source))
            decode_ms.append((time.perf_counter() - start) * 1e3)
        results = []
        for source, image, ms, found in zip(sources, images, decode_ms, self._detect(images, conf), strict=True):
            path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
            results.append(found.from_picture(path, None if path else image, {"decode": ms, **found.speed}))
        return results

    @abstractmethod
    def _detect(self, images: Sequence[ImageU8], conf: float | None) -> list[Detections]:
        """One for each picture, with the speed of preprocess, network and postprocess."""


def summed_speed(parts: Iterable[Mapping[str, float]], merge_ms: float) -> dict[str, float]:
    """Milliseconds by stage of one picture out of those of its parts; reading a part is preprocessing."""
    total = {"preprocess": 0.0, "network": 0.0, "postprocess": merge_ms}
    for speed_ms in parts:
        for stage, ms in speed_ms.items():
            total["preprocess" if stage == "decode" else stage] += ms
    return total

"""Images and videos with boxes, drawn and written in threads while the network runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aweigh.runtime.machine.facts import available_cores
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.video.writing import VideoWriter

_MOST_WRITERS = 4


class AnnotatedWriter:
    """Writes each result to the target of its source; frames of one source become one video.

    A context manager. At the end of its block everything is written; after an error the unfinished video is removed,
    and the images written before it stay.

    Attributes:
        saved: what is written, in order.
    """

    def __init__(self, targets: Mapping[str, Path], fps: Mapping[str, float]) -> None:
        """Args:
        targets: path of a source (``Detections.path``) to the file to write.
        fps: rate of the videos among the sources; live sources have none.
        """
        self.saved: list[Path] = []
        self._targets = targets
        self._fps = fps
        self._images = _Writers(min(_MOST_WRITERS, available_cores()))
        self._frames = _Writers(1)  # in order
        self._video: tuple[str, VideoWriter] | None = None

    def add(self, detections: Detections) -> None:
        """Write a result that has its image; waits while too many are in progress. Raises OSError of earlier writes."""
        path = detections.path or ""
        if detections.frame is None:
            self._end_video()
            self._images.submit(detections.save, self._targets[path])
            self.saved.append(self._targets[path])
            return
        if self._video is None or self._video[0] != path:
            self._end_video()
            self._video = (path, VideoWriter(self._targets[path], self._fps.get(path)))
            self.saved.append(self._targets[path])
        video = self._video[1]
        self._frames.submit(lambda: video.write(detections.plot(), detections.time_s or 0.0))

    def _end_video(self) -> None:
        self._frames.wait()
        if self._video is not None:
            self._video[1].close()
            self._video = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._end_video()
                self._images.wait()
        finally:
            self._images.close()
            self._frames.close()
            if self._video is not None:
                self._video[1].discard()


class _Writers:
    """A pool in which at most twice as many jobs wait as there are threads; the first error is raised to the caller."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="aweigh-write")
        self._under_way: deque[Future[Any]] = deque()
        self._most = 3 * threads

    def submit(self, job: Callable[..., Any], *arguments: Any) -> None:
        while len(self._under_way) >= self._most or (self._under_way and self._under_way[0].done()):
            self._under_way.popleft().result()
        self._under_way.append(self._pool.submit(job, *arguments))

    def wait(self) -> None:
        while self._under_way:
            self._under_way.popleft().result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

"""Finder: turns images into Detections; a Detector, or a MultiView that runs one on several views of each image."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import cached_property
from typing import Any, overload

import numpy.typing as npt

from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.batch import Decoded, decode
from aweigh.runtime.flow.confidence import Conf, ConfArgument, default_drawing, resolve_conf
from aweigh.runtime.flow.failure import Failure, OnError, failure_handler, raise_failure
from aweigh.runtime.flow.pipeline import Batching, Outcome, Pipeline
from aweigh.runtime.flow.sources import Item, Stop, open_sources
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.spec import ModelSpec
from aweigh.runtime.video.reading import FrameLimits


class Finder(ABC):
    """One image, a list or a stream; a subclass forms the batches, runs them and reads the outputs."""

    @property
    @abstractmethod
    def spec(self) -> ModelSpec:
        """The contract of the file."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """How many images of a list are worth running at once."""

    @property
    def names(self) -> dict[int, str]:
        """Category id to name."""
        return self.spec.names

    @overload
    def __call__(
        self, source: str | bytes | os.PathLike[str] | npt.NDArray[Any], conf: ConfArgument | None = None
    ) -> Detections: ...
    @overload
    def __call__(self, source: list[Any] | tuple[Any, ...], conf: ConfArgument | None = None) -> list[Detections]: ...
    @overload  # a PIL image, whose type needs Pillow
    def __call__(self, source: Any, conf: ConfArgument | None = None) -> Detections: ...

    def __call__(self, source: Any, conf: ConfArgument | None = None) -> Detections | list[Detections]:
        """Detect in one image or in a list of them.

        Args:
            source: a path, the bytes of an image file, an RGB array ([H, W, 3] uint8), a PIL image, or a list or tuple
                of these. A list goes through in batches of what the file takes; where the network input follows the
                image's shape, only equal shapes share one. A batch below the smallest that the file takes is filled
                up with grey, which is computed and dropped.
            conf: only scores strictly above it; 0 to 1. A mapping gives each category id its own; ``best`` takes
                those that training found best. The file's own threshold is a floor, as nothing below it is
                computed. None gives all above that; drawn and counted are then those above the best thresholds, 0.3
                in a file without, see ``Detections.drawn_above``.

        Returns:
            Detections, best first; for a list, a list in its order.

        Raises:
            BadInput: an unreadable image, or ``conf`` below the file's threshold or outside 0 to 1.
            CheckFailed: the matrix form of NMS did not settle.
        """
        threshold = resolve_conf(conf, self.spec)
        if not isinstance(source, (list, tuple)):
            return self._one(Item.of(source), threshold)
        if len(source) == 1:
            return [self._one(Item.of(source[0]), threshold)]
        capacity = min(len(source), self.batch_size)
        return list(self._many(lambda stop: (Item.of(image) for image in source), threshold, capacity))

    def stream(
        self,
        sources: Any,
        conf: ConfArgument | None = None,
        *,
        on_error: OnError = "stop",
        keep_images: bool | None = None,
        max_frames: int | None = None,
        max_seconds: float | None = None,
        every_frame: bool = False,
    ) -> Generator[Detections, None, None]:
        """Detect in a stream of images, reading and preparing the next ones while the network is busy.

        The order is kept and memory is bounded: only a few batches are in flight, however long the stream. Images of a
        list, folder, pattern or video file go through in full batches. Those of any other iterable and of live sources
        go as soon as the network is free, singly or with those that arrived in the meantime. All threads end when the
        iterator is exhausted, closed or collected, so ``break`` ends them, at the latest after the batch in the
        network; a thread inside an iterable of your own that does not give its next element ends at that element.

        Args:
            sources: one source or an iterable of them, read as it is needed and in another thread. A source is a path,
                the bytes of an image file, an array, a PIL image (see ``__call__``), a folder or glob pattern (its
                images and videos), a video file, the number of a camera, or an address such as ``rtsp://...``.
            conf: as for a single image.
            on_error: what a source or image that cannot be read does: ``stop`` raises its error, ``skip`` logs a
                warning and goes on, and so does a function, which is given the Failure in its place in the order.
            keep_images: give each result its image (``Detections.image``); None: where it cannot be read again, that
                is, of frames and images from memory.
            max_frames: of each video and live source.
            max_seconds: of each video and live source.
            every_frame: of a live source. By default the newest frame is taken once you have the result before it,
                and what came in between is dropped, so that results do not lag behind; ``frame`` counts those too.

        Yields:
            Detections with ``path`` (the file, the address without its password, or ``camera:N``) and, of videos and
            live sources, ``frame`` and ``time_s``.

        Raises:
            BadInput: ``conf`` or a limit out of range, at once; an unreadable source or image, with ``stop``.
            CheckFailed: the matrix form of NMS did not settle.
            Exception: what an iterable of your own raises, after the results before it.
        """
        threshold = resolve_conf(conf, self.spec)
        limits = FrameLimits(max_frames, max_seconds, every_frame)
        on_failure = failure_handler(on_error)
        return self._many(
            lambda stop: open_sources(sources, limits, stop), threshold, self.batch_size, on_failure, keep_images
        )

    def _one(self, item: Item, conf: Conf | None) -> Detections:
        """Detect in one image in the caller's thread: threads would not make a single image faster."""
        builder = self._builder(1, None)
        (batch,) = builder.add(0, self._decode(item))
        return self._result(self._run(batch, conf), 0, conf)

    def _many(
        self,
        items: Callable[[Stop], Generator[Item | Failure, None, None]],
        conf: Conf | None,
        capacity: int,
        on_failure: Callable[[Failure], None] = raise_failure,
        keep_images: bool | None = None,
    ) -> Generator[Detections, None, None]:
        """Detect in the images of ``items``, in their order.

        Args:
            items: opens them; called when the first result is asked for.
            capacity: images in a batch.
            on_failure: called in the place of an item that could not be read.
        """
        builder = self._builder(capacity, keep_images)
        pipeline = Pipeline(items, self._decode, builder, lambda batch: self._run(batch, conf))
        return self._delivered(pipeline, conf, on_failure)

    def _delivered(
        self, pipeline: Pipeline[Any], conf: Conf | None, on_failure: Callable[[Failure], None]
    ) -> Generator[Detections, None, None]:
        try:
            for result in pipeline.results():
                if not isinstance(result, Failure):
                    yield self._result(*result, conf)
                elif isinstance(result.error, BadInput):
                    on_failure(result)
                else:
                    raise result.error
        finally:
            pipeline.close()

    def _result(self, outcome: Outcome[Any], row: int, conf: Conf | None) -> Detections:
        detections = self._collect(outcome, row, conf)
        read = outcome.batch.rows[row]
        speed_ms = {**read.speed_ms, **detections.speed}
        found = detections.from_source(read.item.path, read.image, speed_ms, read.item.frame, read.item.time_s)
        return replace(found, drawn_above=self._default_drawing if conf is None else None)

    @cached_property
    def _default_drawing(self) -> Conf:
        return default_drawing(self.spec)

    def _decode(self, item: Item) -> Decoded:
        """Read an item; called from several threads at once. Raises BadInput where it cannot be read."""
        return decode(item)

    @abstractmethod
    def _builder(self, capacity: int, keep_images: bool | None) -> Batching[Any]:
        """What forms batches of up to ``capacity`` images; the rows hold the images where ``keep_images`` says so."""

    @abstractmethod
    def _run(self, batch: Any, conf: Conf | None) -> Outcome[Any]:
        """Put a batch through the network."""

    @abstractmethod
    def _collect(self, outcome: Outcome[Any], row: int, conf: Conf | None) -> Detections:
        """The detections of one row, in pixels of its image, with the ``speed`` of the stages after the builder's."""

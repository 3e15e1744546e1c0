"""ServedModel: one opened and tested file with its batcher."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, Self, TypeVar

from aweigh.runtime.backends.outputs import check_finite
from aweigh.runtime.flow.confidence import Conf
from aweigh.runtime.network import ImagesU8, Outputs, fill_batch
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.spec import PostSpec
from aweigh.runtime.views.agnostic import suppress_across_classes
from aweigh.serve.decoding.fair_queue import NOWHERE, Peer
from aweigh.serve.decoding.images import PreparedImage
from aweigh.serve.decoding.pool import Decoders
from aweigh.serve.models.admission import Ticket
from aweigh.serve.models.batcher import Batcher
from aweigh.serve.models.description import ModelDescription, ModelMetadata
from aweigh.serve.models.jobs import BatchResult
from aweigh.serve.models.metrics import Metrics
from aweigh.serve.models.opening import OpenModel, largest_batch
from aweigh.serve.problem import Problem
from aweigh.serve.settings import Limits

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Filter:
    """Which of the detections a client asks for.

    Attributes:
        score: only scores above it, or above that of their class by category id; None for all that the file reports.
        class_ids: only these categories; None for all.
        max_detections: at most so many, the best first; None for all.
        agnostic: without those that a better one of any class overlaps, before classes and the most are taken.
    """

    score: Conf | None = None
    class_ids: frozenset[int] | None = None
    max_detections: int | None = None
    agnostic: bool = False

    def apply(self, detections: Detections, post: PostSpec) -> Detections:
        """The detections that match, all but ``score``, which ``Detector.unmap`` applies; ``post`` is the file's."""
        if self.agnostic and not post.agnostic:
            detections = suppress_across_classes(detections, post)
        if self.class_ids is not None:
            detections = detections[[int(i) in self.class_ids for i in detections.cls]]
        return detections if self.max_detections is None else detections[: self.max_detections]


@dataclass(frozen=True)
class ImageResult:
    """One image's detections, and the milliseconds of each stage."""

    detections: Detections
    timing_ms: dict[str, float]


class ServedModel:
    """Answers requests for one model until it is closed.

    Attributes:
        name: what clients call it.
        version: of the file, see ``OpenModel``.
        detector: the open file.
    """

    def __init__(
        self,
        name: str,
        opened: OpenModel,
        limits: Limits,
        decoders: Decoders,
        threads: ThreadPoolExecutor,
        metrics: Metrics,
    ) -> None:
        """
        Args:
            opened: closed with this object.
            decoders: where images are decoded.
            threads: where forms and tensors are parsed, off the event loop.
        """
        self.name = name
        self.version = opened.version
        self.detector = opened.detector
        self.spec = opened.detector.spec
        self._limits = limits
        self._decoders = decoders
        self._threads = threads
        self._metrics = metrics
        self._users = 0
        self._unused = asyncio.Event()
        self.batcher = Batcher(
            self._infer,
            largest_batch(self.detector, limits),
            wait_s=limits.wait_s,
            on_batch=lambda rows, seconds: metrics.batch(name, rows),
            on_dropped=lambda: metrics.dropped(name),
        )

    @contextlib.contextmanager
    def in_use(self) -> Iterator[Self]:
        """Around a request, from the moment it chose this model: until its end the model is not closed."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def detect(
        self, images: Sequence[bytes], wanted: Filter, ticket: Ticket, peer: Peer = NOWHERE
    ) -> list[ImageResult]:
        """Detect in images, each the bytes of a file. All succeed, or the first failure is raised.

        Raises:
            Problem: 503 the server is stopping, 504 the deadline.
            BadInput: an image that cannot be read, is too large, or costs its decoder its life.
            AweighError: the network failed, or gave what is not finite.
        """
        with self.batcher.arrival():
            async with _deadline(self._limits.deadline_s):
                prepared = [await self._decoders.prepare(image, self.spec.input, peer) for image in images]
                ticket.hold(sum(p.image_u8.nbytes for p in prepared))
                if len(prepared) == 1 and self.batcher.alone:
                    rows = [await self.batcher.compute(prepared[0].image_u8[None], ticket.begin)]
                else:  # those of one request share a batch
                    jobs = (self.batcher.submit(p.image_u8[None], ticket.begin) for p in prepared)
                    rows = await asyncio.gather(*jobs)
            return [self._result(image, row, wanted) for image, row in zip(prepared, rows, strict=True)]

    async def infer(self, images_u8: ImagesU8, ticket: Ticket) -> BatchResult:
        """The graph's outputs for prepared images [n, H, W, 3].

        Raises:
            Problem: 400 too many images, 504 the deadline, 503 closing.
            BadInput: not what the file takes.
            AweighError: the network failed, or gave what is not finite.
        """
        if len(images_u8) > self.batcher.largest_batch:
            raise Problem(400, f"{len(images_u8)} images in one request; the limit is {self.batcher.largest_batch}")
        self.detector.backend.check_batch(images_u8)
        with self.batcher.arrival():
            async with _deadline(self._limits.deadline_s):
                if self.batcher.alone:
                    result = await self.batcher.compute(images_u8, ticket.begin)
                else:
                    result = await self.batcher.submit(images_u8, ticket.begin)
        for row in range(len(images_u8)):
            check_finite(result.outputs, row)
        self._metrics.stages(self.name, {"queue": result.queue_ms, "network": result.network_ms})
        return result

    async def off_loop(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Run a function that takes time in a thread, so that other requests go on."""
        call = functools.partial(function, *arguments, **keywords)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def close(self) -> None:
        """Close the file once no request uses it."""
        while self._users:
            self._unused.clear()
            await self._unused.wait()
        await self.batcher.close()
        self.detector.close()

    def describe(self) -> ModelDescription:
        """Name, version, classes, thresholds and input size."""
        device = self.detector.backend.providers[0]
        batch = self.spec.batch[0], self.batcher.largest_batch
        return ModelDescription(self.name, self.version, self.spec, device, batch)

    def metadata(self) -> ModelMetadata:
        """The tensors, as the Open Inference Protocol describes them."""
        return ModelMetadata.of(self.name, self.version, self.spec)

    def _infer(self, images_u8: ImagesU8) -> Outputs:
        return self.detector.raw(fill_batch(images_u8, self.spec))

    def _result(self, prepared: PreparedImage, row: BatchResult, wanted: Filter) -> ImageResult:
        start = time.perf_counter()
        detections = wanted.apply(self.detector.unmap(row.outputs, 0, prepared.where, wanted.score), self.spec.post)
        timing_ms = {
            "decode": prepared.decode_ms,
            "preprocess": prepared.preprocess_ms,
            "queue": row.queue_ms,
            "network": row.network_ms,
            "postprocess": (time.perf_counter() - start) * 1e3,
        }
        # Once the answer is on its way.
        asyncio.get_running_loop().call_soon(self._metrics.stages, self.name, timing_ms)
        return ImageResult(detections, timing_ms)


@contextlib.asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as late:
        raise Problem(504, f"not answered within {seconds:g} s; the server is too busy") from late

"""ServedModel: one opened and tested file with its batcher."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, Self, TypeVar

from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.errors import AweighError, BadInput
from aweigh.runtime.files.digest import file_sha256
from aweigh.runtime.network import ImagesU8, Outputs, fill_batch
from aweigh.runtime.results.detections import Detections
from aweigh.serve.models.admission import Ticket
from aweigh.serve.models.batcher import Batcher, BatchResult
from aweigh.serve.models.images import PreparedPicture, prepare_picture
from aweigh.serve.models.metrics import Metrics
from aweigh.serve.models.opening import largest_batch, open_detector
from aweigh.serve.problem import Problem, from_error
from aweigh.serve.settings import ModelSource, Settings

# The Open Inference Protocol's names for those of NumPy.
_DATATYPES = {"int64": "INT64", "float32": "FP32", "bool": "BOOL"}

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Filter:
    """What of the detections is asked for.

    Attributes:
        score: only scores above it; None for all that the file reports.
        class_ids: only these; None for all.
        max_detections: the best so many; None for all.
    """

    score: float | None = None
    class_ids: frozenset[int] | None = None
    max_detections: int | None = None


@dataclass(frozen=True)
class Found:
    """One picture's detections and milliseconds by stage."""

    detections: Detections
    timing_ms: dict[str, float]


class ServedModel:
    """Answers requests for one model until it is closed.

    Attributes:
        name: what clients call it.
        version: the first twelve digits of the file's sha256: the same file has it on every machine.
        detector: the open file.
    """

    def __init__(self, source: ModelSource, settings: Settings, decoders: ThreadPoolExecutor, metrics: Metrics) -> None:
        """Opens and tests the file, which takes seconds.

        Args:
            decoders: where pictures are decoded and tensors parsed, off the event loop.

        Raises:
            BadInput, CannotRun, CheckFailed: see ``open_detector``.
        """
        self.name = source.name
        self.version = file_sha256(source.path)[:12]
        self.detector = open_detector(source, settings)
        self.spec = self.detector.spec
        self._limits = settings.limits
        self._decoders = decoders
        self._metrics = metrics
        self._users = 0
        self._unused = asyncio.Event()
        self.batcher = Batcher(
            self._infer,
            largest_batch(self.detector, settings.limits),
            wait_s=settings.limits.wait_s,
            on_batch=lambda rows, seconds: metrics.batch(self.name, rows),
            on_dropped=lambda: metrics.dropped(self.name),
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

    async def detect(self, pictures: Sequence[bytes], wanted: Filter, ticket: Ticket) -> list[Found]:
        """Detect in pictures, each a file's bytes. All succeed, or the first failure is raised.

        Raises:
            Problem: 413 too many pixels, 415 no picture, 422 a damaged one, 504 the deadline, 503 closing.
        """
        with self.batcher.arrival():
            async with _deadline(self._limits.deadline_s):
                if len(pictures) == 1 and self.batcher.alone:
                    prepared, rows = await self._at_once(pictures[0], ticket)
                else:
                    prepared = [await self._prepared(picture) for picture in pictures]
                    ticket.hold(sum(p.image_u8.nbytes for p in prepared))
                    # All through the queue, also of a lone client: they share a batch.
                    jobs = (self.batcher.submit(p.image_u8[None], ticket.begin) for p in prepared)
                    rows = await asyncio.gather(*(self._computed(job) for job in jobs))
            return [self._found(p, row, wanted) for p, row in zip(prepared, rows, strict=True)]

    async def infer(self, images_u8: ImagesU8, ticket: Ticket) -> BatchResult:
        """The graph's outputs for prepared pictures [n, H, W, 3].

        Raises:
            Problem: 400 not what the file takes, 504 the deadline, 503 closing.
        """
        if len(images_u8) > self.batcher.largest_batch:
            raise Problem(400, f"{len(images_u8)} pictures in one request; the limit is {self.batcher.largest_batch}")
        try:
            self.detector.backend.check_batch(images_u8)
        except BadInput as error:
            raise Problem(400, str(error)) from error
        with self.batcher.arrival():
            async with _deadline(self._limits.deadline_s):
                if self.batcher.alone:
                    result = await self._computed(self.batcher.compute(lambda: images_u8, ticket.begin))
                else:
                    result = await self._computed(self.batcher.submit(images_u8, ticket.begin))
        self._metrics.stages(self.name, {"queue": result.queue_ms, "network": result.network_ms})
        return result

    async def off_loop(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Run what takes time, decoding and parsing, in a thread, so that other requests go on."""
        call = functools.partial(function, *arguments, **keywords)
        return await asyncio.get_running_loop().run_in_executor(self._decoders, call)

    async def close(self) -> None:
        """Let the file go once no request uses it."""
        while self._users:
            self._unused.clear()
            await self._unused.wait()
        await self.batcher.close()
        self.detector.close()

    def describe(self) -> dict[str, Any]:
        """Name, version, classes, thresholds, input: what a client may want to know."""
        spec = self.spec
        return {
            "name": self.name,
            "version": self.version,
            "precision": spec.precision,
            "device": self.detector.backend.providers[0],
            "input": {"height": spec.input.size_hw[0], "width": spec.input.size_hw[1], "resize": spec.input.resize},
            "batch": [spec.batch[0], self.batcher.largest_batch],
            "score_threshold": spec.post.score_threshold,
            "max_detections": spec.post.max_det,
            "classes": [{"id": c.id, "name": c.name} for c in spec.categories],
        }

    def metadata(self) -> dict[str, Any]:
        """Of the Open Inference Protocol; -1 stands for any number."""
        spec = self.spec
        low, high = spec.batch
        batch = low if low == high else -1
        height, width = (-1, -1) if spec.input.dynamic_size else spec.input.size_hw
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "aweigh",
            "inputs": [{"name": INPUT_NAME, "datatype": "UINT8", "shape": [batch, height, width, 3]}],
            "outputs": [
                {"name": output.name, "datatype": _DATATYPES[output.dtype], "shape": [batch, *output.axes]}
                for output in spec.post.outputs
            ],
        }

    def _infer(self, images_u8: ImagesU8) -> Outputs:
        return self.detector.raw(fill_batch(images_u8, self.spec))

    async def _prepared(self, picture: bytes) -> PreparedPicture:
        return await self.off_loop(prepare_picture, picture, self.spec.input, self._limits.pixels)

    async def _at_once(self, picture: bytes, ticket: Ticket) -> tuple[list[PreparedPicture], list[BatchResult]]:
        prepared: list[PreparedPicture] = []

        def make() -> ImagesU8:
            prepared.append(prepare_picture(picture, self.spec.input, self._limits.pixels))
            return prepared[0].image_u8[None]

        return prepared, [await self._computed(self.batcher.compute(make, ticket.begin))]

    async def _computed(self, job: Coroutine[Any, Any, BatchResult]) -> BatchResult:
        """What the batcher gives; errors of the runtime as Problems."""
        try:
            return await job
        except AweighError as error:
            raise from_error(error) from error

    def _found(self, prepared: PreparedPicture, row: BatchResult, wanted: Filter) -> Found:
        start = time.perf_counter()
        found = self.detector.unmap(row.outputs, 0, prepared.where, wanted.score)
        if wanted.class_ids is not None:
            found = found[[int(i) in wanted.class_ids for i in found.cls]]
        if wanted.max_detections is not None:
            found = found[: wanted.max_detections]
        timing_ms = {
            "decode": prepared.decode_ms,
            "preprocess": prepared.preprocess_ms,
            "queue": row.queue_ms,
            "network": row.network_ms,
            "postprocess": (time.perf_counter() - start) * 1e3,
        }
        # Once the answer is on its way.
        asyncio.get_running_loop().call_soon(self._metrics.stages, self.name, timing_ms)
        return Found(found, timing_ms)


@contextlib.asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as late:
        raise Problem(504, f"not answered within {seconds:g} s; the server is too busy") from late

"""Decoders: a few warm processes that decode the images of all requests, and are replaced when they die."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from aweigh.runtime.errors import AweighError, CannotRun, Undecodable
from aweigh.runtime.spec import InputSpec
from aweigh.serve.decoding.fair_queue import NOWHERE, FairQueue, Peer
from aweigh.serve.decoding.images import PreparedImage
from aweigh.serve.decoding.process import Bounds, Decoder, DecoderDied
from aweigh.serve.problem import overloaded

LOG = logging.getLogger("aweigh.serve")
_AGAIN_S = 1.0  # after a process that did not start


@dataclass(frozen=True, eq=False)
class _Image:
    """What one request waits for; its client may be gone before it is done."""

    data: bytes
    spec: InputSpec
    peer: Peer
    prepared: asyncio.Future[PreparedImage]

    def fail(self, error: Exception) -> None:
        if not self.prepared.done():
            self.prepared.set_exception(error)


@dataclass(frozen=True, eq=False)
class _Work:
    """What one process is at."""

    image: _Image
    timer: asyncio.TimerHandle


class Decoders:
    """Used in one event loop.

    An image whose decoder crashes, hangs or takes too much time or memory costs its own request.

    Answers are taken, and the next images handed on, when the event loop finds them, and by ``attend`` in between:
    a loop that has hundreds of requests to refuse comes round too seldom to keep the processes at work.
    """

    def __init__(self, count: int, bounds: Bounds, on_replaced: Callable[[], None] = lambda: None) -> None:
        """No process is started yet.

        Args:
            count: of processes.
            bounds: of each image.
            on_replaced: called for each process that died or was killed.
        """
        self._count = count
        self._bounds = bounds
        self._on_replaced = on_replaced
        self._idle: list[Decoder] = []  # the last one used has its memory in the caches, and is the next
        self._busy: dict[Decoder, _Work] = {}
        self._waiting: FairQueue[_Image] = FairQueue()
        self._all: set[Decoder] = set()
        self._tasks: set[asyncio.Task[object]] = set()
        self._started = asyncio.Lock()
        self._closing = False
        self._none_idle_since_s: float | None = None

    async def start(self) -> None:
        """Start all processes, and return once they can decode. Raises CannotRun where one does not start."""
        async with self._started:
            if not self._all and not self._closing:
                for decoder in [self._new() for _ in range(self._count)]:
                    await self._employ(decoder)

    async def prepare(self, data: bytes, spec: InputSpec, peer: Peer = NOWHERE) -> PreparedImage:
        """``prepare_image`` in one of the processes; while all are at work, the clients take turns.

        Args:
            peer: whose image it is.

        Raises:
            NotAnImage: not an image file.
            TooLarge: more than the largest number of pixels.
            Undecodable: cut off or corrupt; or decoding it crashes, or takes too much time or memory.
            Problem: 503, the server is stopping.
        """
        if not self._all:
            await self.start()
        if self._closing:
            raise overloaded("the server is stopping")
        image = _Image(data, spec, peer, asyncio.get_running_loop().create_future())
        self._hand_on(image)
        return await image.prepared

    def attend(self) -> None:
        """Take what the processes have done, and give them the next images; costs microseconds."""
        for decoder in list(self._busy):
            self._take(decoder)

    @property
    def stuck_s(self) -> float:
        """For how long a request has been waiting and no process has come free, seconds."""
        return 0.0 if self._none_idle_since_s is None else time.monotonic() - self._none_idle_since_s

    async def close(self) -> None:
        """End all processes."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        stopping = overloaded("the server is stopping")
        for work in self._busy.values():
            work.timer.cancel()
            work.image.fail(stopping)
        while self._waiting:
            self._waiting.take().fail(stopping)
        self._busy.clear()
        for decoder in self._all:
            decoder.kill()
        while self._all:
            await asyncio.to_thread(self._all.pop().process.wait)

    def _new(self) -> Decoder:
        decoder = Decoder(self._bounds)
        self._all.add(decoder)
        return decoder

    async def _employ(self, decoder: Decoder) -> None:
        """Once it can decode, let it. Raises CannotRun."""
        await decoder.ready()
        decoder.watch(lambda: self._take(decoder))
        self._rest(decoder)

    def _rest(self, decoder: Decoder) -> None:
        """It has no image: give it the next one."""
        self._none_idle_since_s = None
        while self._waiting:
            image = self._waiting.take()
            if not image.prepared.done():
                self._begin(decoder, image)
                return
        self._idle.append(decoder)

    def _hand_on(self, image: _Image) -> None:
        if self._idle:
            self._begin(self._idle.pop(), image)
            return
        if self._none_idle_since_s is None:
            self._none_idle_since_s = time.monotonic()
        self._waiting.add(image, image.peer)

    def _begin(self, decoder: Decoder, image: _Image) -> None:
        timer = asyncio.get_running_loop().call_later(self._bounds.seconds, self._overdue, decoder)
        self._busy[decoder] = _Work(image, timer)
        try:
            reached = decoder.give(image.data, image.spec)
        except DecoderDied as died:
            self._lose(decoder, died)
            return
        if not reached:  # it died before, and the event loop has not noticed yet
            self._end(decoder)
            self._replace(decoder)
            self._hand_on(image)

    def _take(self, decoder: Decoder) -> None:
        """The process has answered, or ended; or neither, where ``attend`` asks."""
        work = self._busy.get(decoder)
        if work is None:  # it has no image: ``attend`` was first to take the answer, or it has ended
            if decoder.is_silent:
                return
            self._idle.remove(decoder)
            self._replace(decoder)
            return
        image = work.image
        try:
            prepared = decoder.take(image.spec)
            if prepared is None:
                return
            if not image.prepared.done():
                image.prepared.set_result(prepared)
        except DecoderDied as died:
            self._lose(decoder, died)
            return
        except AweighError as error:  # of the image; the process goes on
            image.fail(error)
        self._end(decoder)
        self._rest(decoder)

    def _end(self, decoder: Decoder) -> _Image:
        """Its image is done with."""
        work = self._busy.pop(decoder)
        work.timer.cancel()
        return work.image

    def _overdue(self, decoder: Decoder) -> None:
        self._end(decoder).fail(Undecodable(f"image: not decoded within {self._bounds.seconds:g} s"))
        self._replace(decoder)

    def _lose(self, decoder: Decoder, died: DecoderDied) -> None:
        """It died on its image, or must."""
        image = self._end(decoder)
        self._replace(decoder)
        self._keep(self._report(decoder, image, died))

    async def _report(self, decoder: Decoder, image: _Image, died: DecoderDied) -> None:
        why = str(died) or await decoder.how_it_ended()
        image.fail(Undecodable(f"image: its decoder ended on it: {why}"))

    def _replace(self, decoder: Decoder) -> None:
        decoder.kill()
        if self._closing:
            return
        self._on_replaced()
        self._keep(self._start_another(decoder))

    async def _start_another(self, decoder: Decoder) -> None:
        while True:
            decoder.kill()
            self._all.discard(decoder)
            self._keep(asyncio.to_thread(decoder.process.wait))
            try:
                decoder = self._new()
                await self._employ(decoder)
                return
            except CannotRun as error:
                LOG.error("%s", error)
                await asyncio.sleep(_AGAIN_S)

    def _keep(self, work: Coroutine[object, object, object]) -> None:
        """Run it while requests are answered."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

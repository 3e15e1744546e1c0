"""Reading, decoding, preparing and the network at the same time: threads joined by short queues.

    sources -> [read] -> decode (pool) -> [batch: resize into the batch's rows] -> [network] -> the caller

Each arrow is a bounded queue, so memory does not grow with the stream and a slow caller slows all. OpenCV and the
network's library release Python's lock while they work. OpenCV's own number of threads is left alone: it is one setting
for the whole process, which belongs to the application, and decoding, by far most of the work here, is single-threaded
either way.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.batch import Decoded
from aweigh.runtime.flow.channel import Channel, Closed
from aweigh.runtime.flow.failure import Failure
from aweigh.runtime.flow.sources import Item, Stop
from aweigh.runtime.images.reading import ImageU8
from aweigh.runtime.machine.facts import available_cores

# One thread decodes some 300 JPEGs of 1280x720 per second, more than a network on a CPU takes; a GPU takes several.
_MOST_DECODERS = 8
# For an iterable of the caller's own that does not give its next source: nothing can wake a thread in there.
_PATIENCE_S = 1.0
_THREAD_PREFIX = "aweigh-"


class Placed(Protocol):
    """An image of a batch: its position in the stream, from 0, what it was read from, and what is kept of it."""

    @property
    def position(self) -> int: ...

    @property
    def item(self) -> Item: ...

    @property
    def image(self) -> ImageU8 | None: ...

    @property
    def speed_ms(self) -> dict[str, float]: ...


class Rows(Protocol):
    """A batch, as far as the pipeline looks into it."""

    @property
    def rows(self) -> Sequence[Placed]: ...


B = TypeVar("B", bound=Rows)
Decode: TypeAlias = Callable[[Item], Decoded]


class Batching(Protocol[B]):
    """What forms batches of the images of a stream; see ``batch.BatchBuilder``."""

    def add(self, position: int, decoded: Decoded) -> list[B]: ...

    def flush(self) -> list[B]: ...

    def recycle(self, batch: B) -> None: ...


@dataclass
class Outcome(Generic[B]):
    """A batch that went through the network.

    Attributes:
        outputs: what ``run`` made of it; the graph's outputs by name, say.
        network_ms: of the whole batch.
    """

    batch: B
    outputs: Any
    network_ms: float


@dataclass
class _Read:
    """What was read at a position: a failure, an image in memory, or one being decoded."""

    position: int
    item: Item | Failure
    decoding: Future[Decoded] | None = None

    @property
    def settled(self) -> bool:
        return self.decoding is None or self.decoding.done()

    def decoded(self, decode: Decode) -> Decoded | Failure:
        if isinstance(self.item, Failure):
            return self.item
        try:
            return decode(self.item) if self.decoding is None else self.decoding.result()
        except BadInput as error:
            return Failure(self.item.path, error)


class Pipeline(Generic[B]):
    """The threads of one stream: ``results`` starts them, ``close`` ends them.

    Args:
        items: opens the sources; the ``Stop`` it is given is set by ``close``.
        decode: reads an item; called from several threads at once. Raises BadInput as ``flow.batch.decode``.
        builder: forms the batches.
        run: puts a batch through the network.
    """

    def __init__(
        self,
        items: Callable[[Stop], Generator[Item | Failure, None, None]],
        decode: Decode,
        builder: Batching[B],
        run: Callable[[B], Outcome[B]],
    ) -> None:
        self._items = items
        self._decode = decode
        self._builder = builder
        self._run = run
        self._stop = Stop()
        self._error: BaseException | None = None
        decoders = min(_MOST_DECODERS, available_cores())
        self._pool = ThreadPoolExecutor(decoders, thread_name_prefix=f"{_THREAD_PREFIX}decode")
        self._read: Channel[_Read] = Channel(decoders)
        self._ready: Channel[B] = Channel(1)
        self._done: Channel[Outcome[B] | tuple[int, Failure]] = Channel(1)
        # Daemons, so that a stream left open does not keep the process from ending; atexit then ends them in order.
        self._reader, *self._workers = (
            threading.Thread(target=target, name=_THREAD_PREFIX + name, daemon=True)
            for name, target in (("read", self._read_items), ("batch", self._form_batches), ("network", self._infer))
        )

    def results(self) -> Iterator[tuple[Outcome[B], int] | Failure]:
        """In the order of the sources: an outcome and the row of an image in it, or a failure.

        Raises what went wrong in a thread, with that thread's traceback, behind the results before it.
        """
        atexit.register(self.close)
        for thread in (self._reader, *self._workers):
            thread.start()
        waiting: dict[int, tuple[Outcome[B], int] | Failure] = {}
        position = 0
        for done in self._done:
            if isinstance(done, Outcome):
                waiting.update((row.position, (done, i)) for i, row in enumerate(done.batch.rows))
            else:
                waiting[done[0]] = done[1]
            del done
            while position in waiting:
                result = waiting.pop(position)
                if isinstance(result, tuple):
                    delivered = result[0].batch.rows[result[1]].item.delivered
                    if delivered is not None:
                        delivered.set()
                yield result
                del result
                position += 1
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the threads; they do when the image being decoded and the batch in the network are through.

        A reader inside an iterable of the caller's own is waited for a second and then left to end at its next source.
        """
        atexit.unregister(self.close)
        self._stop.set()
        for channel in (self._read, self._ready, self._done):
            channel.close()
        # A forgotten stream may be collected in one of the threads themselves, which cannot wait for itself.
        joinable = not threading.current_thread().name.startswith(_THREAD_PREFIX)
        for thread in self._workers:
            if joinable and thread.ident is not None:
                thread.join()
        while joinable and self._reader.is_alive():
            self._reader.join(_PATIENCE_S)
            if self._stop.in_callers_code:
                break
        self._pool.shutdown(wait=joinable, cancel_futures=True)

    def _read_items(self) -> None:
        items = self._items(self._stop)
        position = 0
        try:
            for item in items:
                if self._stop.is_set():
                    break
                decoding = None
                if isinstance(item, Item) and not isinstance(item.source, np.ndarray):
                    decoding = self._pool.submit(self._decode, item)
                self._read.put(_Read(position, item, decoding))
                position += 1
        except Closed:
            pass
        except Exception as error:  # of the caller's iterable, say: it reaches the caller in its place
            with contextlib.suppress(Closed):
                self._read.put(_Read(position, Failure(None, error)))
        finally:
            self._read.finish()
            items.close()

    def _form_batches(self) -> None:
        hurry = False  # an image is in an open batch that need not wait for more
        try:
            for read in self._read:
                decoded = read.decoded(self._decode)
                if isinstance(decoded, Failure):
                    self._done.put((read.position, decoded))
                else:
                    hurry |= not decoded.item.at_hand
                    for batch in self._builder.add(read.position, decoded):
                        self._ready.put(batch)
                del read, decoded
                following = self._read.peek()
                if hurry and (following is None or not following.settled):
                    for batch in self._builder.flush():
                        self._ready.put(batch)
                    hurry = False
            for batch in self._builder.flush():
                self._ready.put(batch)
        except Closed:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._read.close()
            self._ready.finish()

    def _infer(self) -> None:
        try:
            for batch in self._ready:
                outcome = self._run(batch)
                self._builder.recycle(batch)
                self._done.put(outcome)
                del batch, outcome
        except Closed:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._ready.close()
            self._done.finish()

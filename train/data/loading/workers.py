"""Worker processes: images fetched and made into batches, in a given order.

The images of a batch lie in memory that is shared since before the workers were forked, and only the rest is sent.
torch's own way, a tensor sent by file descriptor, costs a socket conversation for each, which Ctrl-C breaks off in the
middle, to tracebacks from both ends; sent as bytes, images would be copied four times.
"""

from __future__ import annotations

import logging
import mmap
import signal
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from aweigh.runtime.errors import AweighError, CannotRun
from aweigh.runtime.machine.facts import available_cores

logger = logging.getLogger(__name__)

SharedBuffer = npt.NDArray[np.uint8]  # [bytes], memory that this process and its workers share
Item = TypeVar("Item")
Packed = TypeVar("Packed")
Made = TypeVar("Made")

_AHEAD = 2  # batches that each worker prepares beyond the one in use


def load(
    dataset: Dataset[Item],
    batches: Iterable[Sequence[Any]],
    pack: Callable[[list[Item], SharedBuffer], Packed],
    unpack: Callable[[Packed, SharedBuffer], Made],
    buffer_bytes: int,
    workers: int = 0,
) -> Generator[Made, None, None]:
    """Batches, in the order of ``batches``.

    Closing the generator ends the workers. Ctrl-C reaches only this process.

    Args:
        batches: the keys of each batch's items; may be endless, and is read a little ahead.
        pack: in the worker: lays the items' images into the buffer and returns the rest.
        unpack: in this process: makes the batch, copying what lies in the buffer, which the next batches use again.
        buffer_bytes: what the images of the largest batch take.
        workers: processes; 0 does everything in this one.

    Raises:
        AweighError: one that a worker met, as it is, without the worker's traceback.
        CannotRun: a worker was killed.
    """
    if workers > available_cores():
        logger.warning("%d data workers on %d cores slow each other down", workers, available_cores())
    # When batch n is handed out, batch n + ahead is given to a worker, and n is yet to be unpacked: one buffer more.
    count = workers * _AHEAD + 1
    buffers = np.frombuffer(mmap.mmap(-1, count * buffer_bytes), np.uint8).reshape(count, buffer_bytes)
    iterator = _start(_Packing(dataset, pack, buffers), batches, workers)
    try:
        for number, packed in enumerate(iterator):
            if isinstance(packed, AweighError):
                raise packed
            yield unpack(packed, buffers[number % count])
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise CannotRun(f"{error}; if memory was full, use fewer workers or a smaller batch") from error
    finally:
        del iterator  # ends the workers


def _start(packing: _Packing[Any, Packed], batches: Iterable[Sequence[Any]], workers: int) -> Any:
    """torch's iterator over what ``packing`` makes of the batches."""
    with warnings.catch_warnings():
        # torch warns of what is logged above; Python 3.12 of forking a process with threads, which is safe
        # here: the workers use neither a device nor a lock of this process. Spawning would import torch anew in each,
        # which takes seconds.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
        loader = DataLoader(
            packing,
            batch_sampler=enumerate(batches),  # type: ignore[arg-type]
            collate_fn=_as_it_is,
            num_workers=workers,
            prefetch_factor=_AHEAD if workers else None,
            multiprocessing_context="fork" if workers else None,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # without it each start draws from, and so changes, the global generator
        )
        return iter(loader)


class _Packing(Dataset[Any], Generic[Item, Packed]):
    """A data set whose items are whole batches; errors raised on purpose are items too, for torch would wrap them."""

    def __init__(
        self, dataset: Dataset[Item], pack: Callable[[list[Item], SharedBuffer], Packed], buffers: npt.NDArray[np.uint8]
    ) -> None:
        self._dataset = dataset
        self._pack = pack
        self._buffers = buffers

    def __getitems__(self, numbered: tuple[int, Sequence[Any]]) -> Packed | AweighError:
        number, keys = numbered
        try:
            return self._pack([self._dataset[key] for key in keys], self._buffers[number % len(self._buffers)])
        except AweighError as error:
            return error


def _as_it_is(packed: Packed) -> Packed:
    return packed


def _start_worker(_: int) -> None:
    # Both may go to a whole group of processes. The main one finishes its step first, and ends the workers, without
    # their tracebacks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)

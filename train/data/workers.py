"""Worker processes: items fetched and made into batches, in a given order."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Generic, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from aweigh.runtime.errors import AweighError, CannotRun
from aweigh.runtime.machine import available_cores

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Made = TypeVar("Made")


def load(
    dataset: Dataset[Item],
    batches: Iterable[Sequence[Any]],
    make: Callable[[list[Item]], Made],
    workers: int = 0,
    pin_memory: bool = False,
) -> Generator[Made, None, None]:
    """What ``make`` makes of the items of each batch of keys, in the order of ``batches``.

    Closing the generator ends the workers. Ctrl-C reaches this process alone.

    Args:
        batches: may be endless; read a little ahead.
        make: runs in the worker.
        workers: processes; 0 does everything in this one.

    Raises:
        AweighError: one that a worker met, as it is, without the worker's traceback.
        CannotRun: a worker was killed.
    """
    if workers > available_cores():
        logger.warning("%d data workers on %d cores slow each other down", workers, available_cores())
    with warnings.catch_warnings():
        # torch warns of what is logged above; Python 3.12 of forking beside threads, which these workers can bear, for
        # they touch neither a device nor a lock of ours. Spawning would import torch anew in each: seconds.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
        loader = DataLoader(
            _Guarded(dataset),
            batch_sampler=batches,  # type: ignore[arg-type]
            collate_fn=_Maker(make),
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
            worker_init_fn=_start_worker,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # without it each start draws from, and so changes, the global generator
        )
        iterator = iter(loader)
    try:
        for made in iterator:
            if isinstance(made, AweighError):
                raise made
            yield made
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise CannotRun(f"{error}; if memory was full, use fewer workers or a smaller batch") from error
    finally:
        del iterator, loader  # ends the workers


class _Guarded(Dataset[Item | AweighError]):
    """Hands errors raised on purpose over as items: torch would wrap them into a worker's traceback."""

    def __init__(self, dataset: Dataset[Item]) -> None:
        self._dataset = dataset

    def __getitem__(self, key: Any) -> Item | AweighError:
        try:
            return self._dataset[key]
        except AweighError as error:
            return error


class _Maker(Generic[Item, Made]):
    """The batch, or the first error among its items."""

    def __init__(self, make: Callable[[list[Item]], Made]) -> None:
        self._make = make

    def __call__(self, items: list[Item | AweighError]) -> Made | AweighError:
        good: list[Item] = []
        for item in items:
            if isinstance(item, AweighError):
                return item
            good.append(item)
        return self._make(good)


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends the workers, without their tracebacks
    cv2.setNumThreads(0)
    torch.set_num_threads(1)

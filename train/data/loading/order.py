"""Which images make up which batch: a function of seed, epoch and batch number, with no state to save."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput

_ORDER_STREAM = 2  # keeps these random numbers apart from the augmentation's


@dataclass(frozen=True)
class TrainingOrder:
    """The order of all epochs.

    An epoch shows every image once, in an order of its own, less the ones that do not fill a last batch. Where the
    data set is smaller than a batch, an epoch is one batch in which images return, augmented anew each time. The
    batches do not depend on how many processes share them.

    With ``repeats`` an epoch shows image i ``repeats[i]`` times on average: the whole part always, one time more in a
    share of the epochs that is the rest.

    Attributes:
        records: images of the split.
        batch_size: of all processes together.
        rank, world_size: this process among those that train together; each takes its part of every batch. Parts differ
            by an image where the batch cannot be divided evenly.
        repeats: [records] each at least 1, or None for once each.
    """

    records: int
    batch_size: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    repeats: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.records < 1 or self.batch_size < 1 or self.seed < 0 or not 0 <= self.rank < self.world_size:
            raise BadInput(
                f"{self.records} images, batch {self.batch_size}, seed {self.seed}, rank {self.rank} of "
                f"{self.world_size}: expected an image or more, a batch from 1, a seed from 0, a rank below the number"
            )
        if self.batch_size < self.world_size:
            raise BadInput(
                f"--batch {self.batch_size}: {self.world_size} processes share it, and each needs an image; "
                "take a larger batch or fewer processes"
            )

        if self.repeats is not None and (len(self.repeats) != self.records or min(self.repeats) < 1):
            raise BadInput(f"{len(self.repeats)} repeat factors of {self.records} images: expected one each, from 1")

    @property
    def draws(self) -> int:
        """Images that one pass shows, repeated ones counted each time."""
        return self.records if self.repeats is None else int(sum(self.repeats))

    @property
    def batches_per_epoch(self) -> int:
        return max(1, self.draws // self.batch_size)

    def batch(self, epoch: int, position: int) -> list[tuple[int, int]]:
        """(epoch, record index) of this process' images in one batch, as DetectionDataset takes them."""
        return self._batch(self._epoch(epoch), position)

    def batches(self, start_epoch: int = 0, start_batch: int = 0) -> Iterator[list[tuple[int, int]]]:
        """All batches from there on, epoch after epoch, without end."""
        epoch, position = start_epoch + start_batch // self.batches_per_epoch, start_batch % self.batches_per_epoch
        while True:
            draws = self._epoch(epoch)
            for i in range(position, self.batches_per_epoch):
                yield self._batch(draws, i)
            epoch, position = epoch + 1, 0

    def _epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        """[draws, 2] of (epoch for the augmentation, record index)."""
        # A small data set is gone through several times within an epoch; the passes count as epochs of their own.
        passes = math.ceil(self.batch_size / self.draws)
        return np.concatenate([self._pass(epoch * passes + i) for i in range(passes)])

    def _pass(self, number: int) -> npt.NDArray[np.int64]:
        rng = np.random.default_rng([_ORDER_STREAM, self.seed, number])
        if self.repeats is None:
            order = rng.permutation(self.records)
            return np.stack([np.full_like(order, number), order], axis=1)
        # Systematic sampling: along the sum of the factors, in random order, a draw at every whole step.
        order = rng.permutation(self.records)
        steps = np.floor(np.cumsum(np.asarray(self.repeats)[order]) + rng.random()).astype(np.int64)
        times = np.diff(steps, prepend=0)
        draws = np.repeat(order, times)
        # Each return is augmented anew: it counts as an epoch of its own.
        returns = np.arange(len(draws)) - np.repeat(np.cumsum(times) - times, times)
        most = math.ceil(max(self.repeats)) + 1
        shuffled = rng.permutation(len(draws))[: self.draws]
        return np.stack([number * most + returns, draws], axis=1)[shuffled]

    def _batch(self, draws: npt.NDArray[np.int64], position: int) -> list[tuple[int, int]]:
        first, last = (
            position * self.batch_size + self.batch_size * rank // self.world_size
            for rank in (self.rank, self.rank + 1)
        )
        return [(int(epoch), int(index)) for epoch, index in draws[first:last]]

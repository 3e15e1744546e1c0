from __future__ import annotations

import itertools

import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.data.loading.order import TrainingOrder


def take(order: TrainingOrder, count: int, epoch: int = 0, batch: int = 0) -> list[list[tuple[int, int]]]:
    return list(itertools.islice(order.batches(epoch, batch), count))


def test_an_epoch_shows_each_picture_once_less_the_incomplete_batch() -> None:
    order = TrainingOrder(records=23, batch_size=5)
    assert order.batches_per_epoch == 4
    epochs = [[draw for batch in take(order, 4, epoch) for draw in batch] for epoch in (0, 1)]
    for number, draws in enumerate(epochs):
        assert len({index for _, index in draws}) == 20
        assert {epoch for epoch, _ in draws} == {number}
    assert [index for _, index in epochs[0]] != [index for _, index in epochs[1]]


def test_resuming_continues_where_it_was() -> None:
    order = TrainingOrder(records=23, batch_size=5, seed=7)
    whole = take(order, 20)
    for start in range(20):
        assert take(order, 20 - start, *divmod(start, 4)) == whole[start:]
        assert order.batch(*divmod(start, 4)) == whole[start]
    assert take(order, 5, 1, 9) == take(order, 5, 3, 1)


def test_the_seed_decides() -> None:
    assert take(TrainingOrder(50, 5, seed=1), 5) == take(TrainingOrder(50, 5, seed=1), 5)
    assert take(TrainingOrder(50, 5, seed=1), 5) != take(TrainingOrder(50, 5, seed=2), 5)


def test_processes_share_the_batches_of_one() -> None:
    whole = take(TrainingOrder(23, 6), 6)
    for world_size in (2, 4):  # 4 do not divide 6
        parts = [take(TrainingOrder(23, 6, rank=rank, world_size=world_size), 6) for rank in range(world_size)]
        assert [list(itertools.chain(*shares)) for shares in zip(*parts, strict=True)] == whole
        assert {len(batch) for part in parts for batch in part} == ({3} if world_size == 2 else {1, 2})


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_small_data_set_returns_within_a_batch_as_other_epochs(world_size: int) -> None:
    orders = [TrainingOrder(3, 8, rank=r, world_size=world_size) for r in range(world_size)]
    assert orders[0].batches_per_epoch == 1
    epochs = [[draw for order in orders for draw in order.batch(epoch, 0)] for epoch in range(3)]
    assert all(len(draws) == 8 for draws in epochs)
    assert all({index for _, index in draws} == {0, 1, 2} for draws in epochs)
    everything = [draw for draws in epochs for draw in draws]
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize(
    "wrong", [{"records": 0}, {"batch_size": 0}, {"seed": -1}, {"rank": 1}, {"rank": -1}, {"world_size": 0}]
)
def test_numbers_without_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="expected an image"):
        TrainingOrder(**{"records": 9, "batch_size": 2, **wrong})


def test_each_process_needs_a_picture() -> None:
    with pytest.raises(BadInput, match="--batch 2: 3 processes share it"):
        TrainingOrder(9, 2, world_size=3)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.flow.batch import BatchBuilder, Decoded, decode
from aweigh.runtime.flow.sources import Item
from aweigh.runtime.images.preprocess import prepare
from aweigh.runtime.spec import InputSpec, ModelSpec

MakePicture = Callable[..., Any]


def decoded(image: Any) -> Decoded:
    return decode(Item.of(image))


def positions(batches: list[Any]) -> list[list[int]]:
    return [[row.position for row in batch.rows] for batch in batches]


def test_full_batches_hold_prepared_pictures(spec: ModelSpec, make_picture: MakePicture) -> None:
    builder = BatchBuilder(spec, capacity=2)
    pictures = [make_picture((128, 192)), make_picture((64, 300), (4, 4, 30, 30))]
    assert builder.add(0, decoded(pictures[0])) == []
    (batch,) = builder.add(1, decoded(pictures[1]))
    for image_u8, row, picture in zip(batch.images_u8, batch.rows, pictures, strict=True):
        expected, where = prepare(picture, spec.input)
        assert np.array_equal(image_u8, expected)
        assert row.where == where
        assert row.image is picture  # it cannot be read again
        assert set(row.speed_ms) == {"decode", "preprocess"}
    assert builder.flush() == []


def test_small_batches_are_filled_up_whatever_the_buffer_held(spec: ModelSpec, make_picture: MakePicture) -> None:
    spec = replace(spec, batch=(3, 8), input=replace(spec.input, pad_value=7))
    builder = BatchBuilder(spec, capacity=4)
    builder.add(0, decoded(make_picture()))
    (batch,) = builder.flush()
    batch.images_u8[:] = 99
    builder.recycle(batch)
    builder.add(1, decoded(make_picture()))
    (again,) = builder.flush()
    assert again.images_u8 is batch.images_u8
    images_u8 = again.filled(spec)
    assert np.shares_memory(images_u8, again.images_u8)
    assert images_u8.shape == (3, *spec.input.size_hw, 3)
    assert np.array_equal(images_u8[0], prepare(make_picture(), spec.input)[0])
    assert (images_u8[1:] == 7).all()
    assert again.filled(replace(spec, batch=(1, 8))).shape[0] == 1


def test_shapes_wait_for_their_like_within_a_window(spec: ModelSpec, make_picture: MakePicture) -> None:
    keep_ratio = InputSpec(size_hw=(64, 96), resize="keep-ratio", dynamic_size=True)
    builder = BatchBuilder(replace(spec, input=keep_ratio), capacity=2)
    wide, tall = make_picture((64, 300), (4, 4, 9, 9)), make_picture((300, 64), (4, 4, 9, 9))
    run = [positions(builder.add(i, decoded(tall if i in (0, 3, 5) else wide))) for i in range(14)]
    assert run[:6] == [[], [], [[1, 2]], [[0, 3]], [], []]
    assert run[6:] == [[[4, 6]], [], [[7, 8]], [], [[9, 10]], [], [[11, 12]], [[5]]]
    assert positions(builder.flush()) == [[13]]


@pytest.mark.parametrize(("keep", "kept"), [(None, [True, False]), (True, [True, True]), (False, [False, False])])
def test_which_pictures_are_kept(
    keep: bool | None, kept: list[bool], spec: ModelSpec, make_picture: MakePicture, folder: Any
) -> None:
    builder = BatchBuilder(spec, 2, keep)
    builder.add(0, decoded(make_picture()))
    (batch,) = builder.add(1, decoded(folder / "a.png"))
    assert [row.image is not None for row in batch.rows] == kept

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aweigh.export.engine.profiles import make_profiles, parse_opt_batches
from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category, InputSpec, ModelSpec, PostSpec

SPEC = ModelSpec("fcos", "nano", (Category(1, "a"),), InputSpec((320, 480)), PostSpec("none"), batch=(1, 8))


def ranges(*opt_batches: int, batch: tuple[int, int] = (1, 8), **changes: Any) -> list[tuple[list[int], ...]]:
    spec = replace(SPEC, batch=batch, input=replace(SPEC.input, **changes))
    return [(list(p.min), list(p.opt), list(p.max)) for p in make_profiles(spec, opt_batches)]


def test_static_sizes() -> None:
    assert ranges(batch=(4, 4)) == [([4, 320, 480, 3],) * 3]
    assert ranges() == [([1, 320, 480, 3], [8, 320, 480, 3], [8, 320, 480, 3])]
    assert ranges(2) == [([1, 320, 480, 3], [2, 320, 480, 3], [8, 320, 480, 3])]


def test_a_bucket_for_each_best_batch() -> None:
    assert [tuple(shape[0] for shape in bucket) for bucket in ranges(1, 8)] == [(1, 1, 1), (2, 8, 8)]
    assert [tuple(shape[0] for shape in bucket) for bucket in ranges(1, 3, 6)] == [(1, 1, 1), (2, 3, 3), (4, 6, 8)]


def test_sizes_of_pictures_that_keep_their_ratio() -> None:
    got = ranges(2, size_hw=(300, 500), resize="keep-ratio", dynamic_size=True)
    assert got == [
        ([1, 32, 32, 3], [2, 320, 512, 3], [8, 320, 512, 3]),
        ([1, 32, 32, 3], [2, 512, 320, 3], [8, 512, 320, 3]),
    ]
    assert len(ranges(1, 8, size_hw=(300, 500), resize="keep-ratio", dynamic_size=True)) == 4
    assert len(ranges(size_hw=(320, 320), resize="keep-ratio", dynamic_size=True)) == 1


def test_dynamic_sizes_of_other_policies() -> None:
    assert ranges(dynamic_size=True) == [([1, 32, 32, 3], [8, 320, 480, 3], [8, 320, 480, 3])]


@pytest.mark.parametrize("opt_batches", [(0,), (9,), (4, 2), (2, 2)])
def test_best_batches_are_within_the_range_and_rise(opt_batches: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match=r"--opt-batch .*expected rising numbers from 1 to 8"):
        make_profiles(SPEC, opt_batches)


def test_parse_opt_batches() -> None:
    assert parse_opt_batches("8") == (8,)
    assert parse_opt_batches("1,8") == (1, 8)
    for text in ("", "0", "1-8", "a", "1,,8", "-1"):
        with pytest.raises(BadInput, match="--opt-batch"):
            parse_opt_batches(text)

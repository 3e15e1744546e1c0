"""Numbers of an entry: decimals as short as they can be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from aweigh.runtime.results.entry import decimals

RANDOM = np.random.default_rng(0)
NEAR_POWERS = [
    sign * float(np.nextafter(np.float32(10.0**power), np.float32(side)))
    for power in range(-8, 9)
    for side in (0, 10.0**power, 1e9)
    for sign in (1, -1)
]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(RANDOM.random(50_000, dtype=np.float32), id="scores"),
        pytest.param((RANDOM.random((20_000, 4)) * 8000).astype(np.float32), id="boxes"),
        pytest.param(RANDOM.integers(0, 0x7F800000, 50_000, dtype=np.uint32).view(np.float32), id="any"),
        pytest.param(-np.exp(RANDOM.uniform(-16, 16, 50_000)).astype(np.float32), id="negative"),
        pytest.param((np.arange(50_000) / 10).astype(np.float32), id="tenths"),
        pytest.param((2.0 ** np.arange(-30, 30)).astype(np.float32), id="powers of two"),
        pytest.param(np.array(NEAR_POWERS, np.float32), id="about powers of ten"),
        pytest.param(np.array([0.0, -0.0, np.inf, -np.inf, 3.4028235e38, 1e-45], np.float32), id="ends of the range"),
        pytest.param(np.zeros((0, 4), np.float32), id="none"),
    ],
)
def test_the_shortest_decimal_that_is_the_same_float32(values: npt.NDArray[np.float32]) -> None:
    found = decimals(values)
    assert list(map(repr, found)) == [repr(float(str(value))) for value in values.ravel()]
    assert np.array(found, np.float32).tobytes() == values.tobytes()

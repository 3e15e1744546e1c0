from __future__ import annotations

import pytest

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.shape_ranges import ShapeProfile, choose_profile

ONE = ShapeProfile((1, 64, 96, 3), (1, 64, 96, 3), (1, 64, 96, 3))
MANY = ShapeProfile((1, 64, 96, 3), (8, 64, 96, 3), (8, 64, 96, 3))


def test_covers() -> None:
    assert ONE.fixed
    assert not MANY.fixed
    assert MANY.covers((8, 64, 96, 3))
    assert not MANY.covers((9, 64, 96, 3))
    assert not MANY.covers((8, 96, 64, 3))
    assert not MANY.covers((8, 64, 96))
    assert str(MANY) == "1x64x96x3 to 8x64x96x3, best at 8x64x96x3"


def test_the_nearest_by_its_optimum() -> None:
    assert choose_profile((MANY, ONE), (1, 64, 96, 3)) == 1
    assert choose_profile((MANY, ONE), (2, 64, 96, 3)) == 0
    with pytest.raises(BadInput, match="a batch of shape 9x64x96x3: this engine takes 1x64x96x3 to 8x64x96x3"):
        choose_profile((MANY, ONE), (9, 64, 96, 3))


def test_a_profile_has_an_order() -> None:
    with pytest.raises(BadInput, match="min <= opt <= max"):
        ShapeProfile((2, 1, 1, 3), (1, 1, 1, 3), (2, 1, 1, 3))

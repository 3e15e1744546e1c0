"""Values of recipes against their annotations."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.methods import make_method
from aweigh.train.typed import typed


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (Literal["b", "c"], "c", "c"),
        (tuple[float, ...], [1, 2.5, 3], (1.0, 2.5, 3.0)),
        (tuple[float, float], [1, 2], (1.0, 2.0)),
        (int, 3.0, 3),
        (float | None, None, None),
        (bool, True, True),
    ],
)
def test_values_become_what_the_annotation_says(annotation: Any, value: Any, expected: Any) -> None:
    assert typed(annotation, value, "here") == expected


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Literal["b", "c"], "z"),
        (tuple[float, float], [1, 2, 3]),
        (tuple[float, ...], "1,2"),
        (int, 2.5),
        (bool, "yes"),
        (float, "much"),
    ],
)
def test_other_values_are_told(annotation: Any, value: Any) -> None:
    with pytest.raises(BadInput, match="here: got"):
        typed(annotation, value, "here")


def test_options_of_methods_are_checked() -> None:
    with pytest.raises(BadInput, match="method paa: boundary: got 'z', expected one of b, c, d"):
        make_method("paa", 3, {"boundary": "z"})
    with pytest.raises(BadInput, match="temperature"):
        make_method("o2f", 3, {"temperature": [0.6]})

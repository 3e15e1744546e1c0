"""Values of recipes against their annotations."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import read_value


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
    assert read_value(annotation, value, "here", coerce=True) == expected


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
        read_value(annotation, value, "here", coerce=True)

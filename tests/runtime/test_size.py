from __future__ import annotations

import pickle

import pytest

from aweigh.runtime.errors import BadInput
from aweigh.runtime.size import Size
from aweigh.runtime.spec import InputSpec


@pytest.mark.parametrize(
    ("text", "size_hw"), [("320", (320, 320)), ("288x384", (288, 384)), ("288X384", (288, 384)), (" 64,96 ", (64, 96))]
)
def test_parse(text: str, size_hw: tuple[int, int]) -> None:
    assert Size.parse(text) == size_hw


@pytest.mark.parametrize("text", ["0", "31", "8193", "320x0", "-320", "320x", "x320", "", "320.5", "1x2x3", "big"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(BadInput, match=r"--imgsz .*: expected N or HxW, each from 32 to 8192"):
        Size.parse(text)


def test_an_input_spec_holds_a_plain_pair() -> None:
    spec = InputSpec(Size.parse("288x384"))
    assert spec == InputSpec((288, 384))
    assert b"aweigh.runtime.size" not in pickle.dumps(spec.size_hw)

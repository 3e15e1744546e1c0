from __future__ import annotations

import pytest

from aweigh.runtime.cli.numbers import parse_batch, parse_counts
from aweigh.runtime.errors import BadInput


def test_counts() -> None:
    assert parse_counts("1", "--batch") == [1]
    assert parse_counts("8,1,8", "--batch") == [8, 1]
    for text in ("", "0", "1,", "1;2", "-1", "1,x", "1-8"):
        with pytest.raises(BadInput, match="--batch"):
            parse_counts(text, "--batch")


def test_a_batch_size_or_a_range() -> None:
    assert parse_batch("4") == (4, 4)
    assert parse_batch("1-8") == (1, 8)
    for text in ("", "0", "0-4", "8-1", "1-", "-1", "1,8", "x"):
        with pytest.raises(BadInput, match=r"--batch .*: expected a number or a range"):
            parse_batch(text)

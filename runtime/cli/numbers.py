"""Numbers in the values of flags: lists, ranges, tolerances."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from aweigh.runtime.agreement.tolerances import ADJUSTABLE, flag
from aweigh.runtime.errors import BadInput


def parse_counts(text: str, flag: str) -> list[int]:
    """Positive integers with commas between, each once and in the order given.

    Raises:
        BadInput: anything else; the message begins with ``flag``.

    Example:
        >>> parse_counts("8,1,8", "--batch")
        [8, 1]
    """
    if not re.fullmatch(r"[1-9]\d{0,4}(,[1-9]\d{0,4})*", text):
        raise BadInput(f"{flag} {text!r}: expected positive numbers with commas between, for example 1,8")
    return list(dict.fromkeys(int(part) for part in text.split(",")))


def parse_batch(text: str) -> tuple[int, int]:
    """A batch size ``4`` or a range ``1-8``, as (smallest, largest).

    Raises:
        BadInput: anything else, or a range that does not ascend from 1 or more.

    Example:
        >>> parse_batch("4"), parse_batch("1-8")
        ((4, 4), (1, 8))
    """
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2] or match[1]):
        raise BadInput(f"--batch {text!r}: expected a number or a range, 4 or 1-8")
    return int(match[1]), int(match[2] or match[1])


def add_tolerances(parser: argparse.ArgumentParser, names: Sequence[str] = tuple(ADJUSTABLE)) -> None:
    """One flag for each of ``names``, all of which are in ``ADJUSTABLE``."""
    for name in names:
        parser.add_argument(flag(name), type=float, metavar="X", help=f"instead of the precision's: {ADJUSTABLE[name]}")


def given_tolerances(arguments: argparse.Namespace) -> dict[str, float]:
    """The tolerances that the user gave, by name."""
    values = {name: getattr(arguments, f"tol_{name}", None) for name in ADJUSTABLE}
    return {name: value for name, value in values.items() if value is not None}


def conf_or_best(text: str) -> float | str:
    """A score threshold, or ``best`` for those that training found best for each class."""
    if text == "best":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 1, or best") from None

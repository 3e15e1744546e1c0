"""The flags that replace a tolerance: --tol-moved-px, --tol-score and so on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from aweigh.runtime.agreement.tolerances import ADJUSTABLE, flag


def add_tolerances(parser: argparse.ArgumentParser, names: Sequence[str] = tuple(ADJUSTABLE)) -> None:
    """One flag for each of ``names``, all of which are in ``ADJUSTABLE``."""
    for name in names:
        parser.add_argument(flag(name), type=float, metavar="X", help=f"instead of the precision's: {ADJUSTABLE[name]}")


def given_tolerances(arguments: argparse.Namespace) -> dict[str, float]:
    """The tolerances that the user gave, by name."""
    values = {name: getattr(arguments, f"tol_{name}", None) for name in ADJUSTABLE}
    return {name: value for name, value in values.items() if value is not None}

"""The flag --match-names, of every verb that holds a model against a data set."""

from __future__ import annotations

import argparse


def add_match_names(parser: argparse.ArgumentParser) -> None:
    """Add the flag."""
    parser.add_argument(
        "--match-names",
        action="store_true",
        help="match the classes of the data set with the model's by name, where their ids differ",
    )

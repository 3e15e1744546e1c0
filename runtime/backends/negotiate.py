"""Which precision a back end is to compute in, and whether it does. The same rules for every library.

Nothing asked for means what the file says. A machine without arithmetic of that precision may compute in a higher one,
as ``Backend.precision`` reports; it never computes in a lower one. A precision asked for by name is used or refused.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.precision import PRECISIONS, is_coarser


def wanted_precision(
    path: str | os.PathLike[str], in_file: str, asked: str | None, backend: str, others: Collection[str] = ()
) -> str:
    """The precision to compute in.

    Args:
        path: for the message.
        in_file: what the file says.
        asked: None for what the file says.
        others: what this back end computes of this file when asked to.

    Raises:
        BadInput: no such precision, or one that has to be in the file.
    """
    if asked is None:
        return in_file
    if asked not in PRECISIONS:
        raise BadInput(f"precision {asked!r}: expected one of {', '.join(sorted(PRECISIONS))}")
    if asked != in_file and asked not in others:
        choices = [in_file, *others]
        raise BadInput(
            f"{path}: precision {asked!r} was asked for, the file holds {in_file}, of which {backend} computes "
            f"{' or '.join(choices)}; export it with --precision {asked}, or leave --precision out"
        )
    return asked


def computed_precision(
    path: str | os.PathLike[str], wanted: str, asked: str | None, layers: Mapping[str, int], backend: str
) -> str:
    """The coarsest precision that a convolution is really computed in.

    Args:
        wanted: what ``wanted_precision`` gave.
        layers: convolutions by precision, as the library reports; without any, ``wanted`` is believed.

    Raises:
        CannotRun: coarser than wanted, or another than what was asked for by name.
    """
    ladder: tuple[str, ...] = PRECISIONS
    computed = min(layers, key=ladder.index, default=wanted)
    coarser = is_coarser(computed, wanted)
    if coarser or (asked is not None and computed != asked):
        hint = "another back end or device may have it" if asked is None else "leave --precision out"
        raise CannotRun(
            f"{path}: expected {wanted}, on this machine {backend} computes otherwise ({describe_layers(layers)}); "
            f"{'that is coarser; ' if coarser else ''}{hint}"
        )
    return computed


def describe_layers(layers: Mapping[str, int]) -> str:
    """``convolutions: 46 in fp32, 15 in int8``."""
    parts = [f"{count} in {name}" for name, count in sorted(layers.items(), key=lambda item: -item[1])]
    return "convolutions: " + ", ".join(parts)

"""The precisions a network is computed in, by name."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["int8", "bf16", "fp16", "fp32"]

# From the coarsest to the finest.
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def is_coarser(precision: str, other: str) -> bool:
    """Whether the first rounds more than the second.

    Example:
        >>> is_coarser("int8", "fp16"), is_coarser("fp32", "fp32")
        (True, False)
    """
    names: tuple[str, ...] = PRECISIONS
    return names.index(precision) < names.index(other)

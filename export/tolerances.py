"""Flags that override the tolerances of a receipt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

from aweigh.runtime.errors import BadInput
from aweigh.runtime.tolerances import TOLERANCES, Tolerances

# What a flag may change; the normalised input has the same tolerance everywhere.
ADJUSTABLE = ("ap", "score", "share", "moved_px", "stage")


def flag(name: str) -> str:
    """``--tol-moved-px`` for ``moved_px``."""
    return f"--tol-{name.replace('_', '-')}"


def tolerances_for(precision: str, given: Mapping[str, float]) -> tuple[Tolerances, dict[str, float]]:
    """Tolerances of a precision with some overridden, and the defaults of those that were.

    Raises BadInput for a negative value or NaN.
    """
    for name, value in given.items():
        if not value >= 0:
            raise BadInput(f"{flag(name)} {value}: expected 0 or more")
    default = TOLERANCES[precision]
    replaced = {name: asdict(default)[name] for name, value in given.items() if value != asdict(default)[name]}
    return replace(default, **given), replaced


def override_warnings(tolerances: Tolerances, replaced: Mapping[str, float], precision: str) -> list[str]:
    """One sentence per tolerance that was not left as it is."""
    return [
        f"Tolerance {name} was set to {asdict(tolerances)[name]:g} by hand ({flag(name)}); "
        f"without it, {precision} is held to {value:g}."
        for name, value in replaced.items()
    ]

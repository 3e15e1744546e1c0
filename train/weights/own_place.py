"""``AWEIGH_WEIGHTS``: a folder or an address that stands for the places where weights are published."""

from __future__ import annotations

import os
from pathlib import Path

from aweigh.runtime.errors import BadInput

VARIABLE = "AWEIGH_WEIGHTS"


def in_own_place(name: str, digits: str, flag: str) -> str | None:
    """The source of a published file, as :func:`~aweigh.train.weights.source.fetch_weights` takes it.

    Args:
        name: of the file, as it was published.
        digits: first hexadecimal digits of its SHA-256.
        flag: begins the message.

    Returns:
        None where the variable is not set.

    Raises:
        BadInput: it names a folder that lacks the file.
    """
    place = os.environ.get(VARIABLE, "")
    if not place:
        return None
    if "://" in place:
        return f"{place.rstrip('/')}/{name}#sha256={digits}"
    path = Path(place).expanduser() / name
    if not path.is_file():
        raise BadInput(f"{flag}: the folder {VARIABLE}={place} has no {name}")
    return f"{path}#sha256={digits}"

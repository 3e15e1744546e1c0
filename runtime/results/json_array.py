"""Results written entry by entry as they come, as one JSON document that appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.json_text import json_text


@contextmanager
def json_array(path: str | os.PathLike[str]) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yields a function that appends an entry, a line of the file; the array is closed when the block ends well.

    Nothing is kept in memory. Raises OSError as the file system does, ValueError for NaN and infinity.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        file.flush()  # a full disk is reported before the work, not after it
        separator = "\n"

        def append(entry: dict[str, Any]) -> None:
            nonlocal separator
            file.write(separator + json_text(entry))
            separator = ",\n"

        yield append
        file.write("]\n" if separator == "\n" else "\n]\n")

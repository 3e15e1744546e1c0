"""Failures: images and sources that could not be read, and what a stream does about them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from aweigh.runtime.errors import BadInput


@dataclass(frozen=True)
class Failure:
    """An image, video or live source that could not be read, or not to its end.

    Attributes:
        path: the file, the name of the live source, or None for an image from memory.
        error: why. Anything but a BadInput (an exception of the caller's own iterable) ends a stream.
    """

    path: str | None
    error: Exception

    def to_dict(self) -> dict[str, Any]:
        """The entry of ``failures.json``."""
        return {"file": self.path, "error": str(self.error)}


OnError: TypeAlias = Literal["stop", "skip"] | Callable[[Failure], None]


def failure_handler(on_error: OnError) -> Callable[[Failure], None]:
    """What is called with each failure: raises it, logs a warning, or is the function given."""
    if callable(on_error):
        return on_error
    if on_error == "stop":
        return raise_failure
    if on_error == "skip":
        return _log
    raise BadInput(f"on_error {on_error!r}: expected 'stop', 'skip' or a function")


def raise_failure(failure: Failure) -> None:
    """Raises the failure's error."""
    raise failure.error


def _log(failure: Failure) -> None:
    logging.getLogger(__name__).warning("skipped: %s", failure.error)

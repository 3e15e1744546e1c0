"""Closing: what holds memory or a device until it is closed, as the context of a block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closing(ABC):
    """``with`` closes it at the end of the block, however the block ends."""

    @abstractmethod
    def close(self) -> None:
        """Give back memory and device; calling it twice does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

"""RunLock: one process at a time writes into the folder of a run."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from aweigh.runtime.errors import BadInput

LOCK_NAME = ".lock"


class RunLock:
    """A lock on a folder, which ends with the process that holds it, however that ends.

    It is the process's own: worker processes that it forks do not hold it on when it is killed.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock; the folder must be there. Raises BadInput where another process has it."""
        if self._descriptor is not None:
            return
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            os.close(descriptor)
            raise BadInput(
                f"{self._path.parent}: another process trains in this folder; wait until it ends, or "
                "take another --name"
            ) from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

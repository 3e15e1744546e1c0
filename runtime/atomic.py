"""Write files so that they appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class PendingFile:
    """A file under a temporary name next to ``path``; ``commit`` gives it the name, ``discard`` removes it.

    The temporary name keeps the suffix (writers such as OpenCV choose the format by it) and starts with a dot (folder
    listings skip it). Missing parent folders are made.

    Attributes:
        temporary: where to write.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile.mkstemp: its files are readable by the owner only, and os.replace would keep that.
        self.temporary = self.path.with_name(f".{self.path.stem[:80]}.{secrets.token_hex(6)}{self.path.suffix}")

    def commit(self) -> None:
        """Replace ``path`` by what was written. Raises OSError as the file system does."""
        # The data must be on disk before the name is: after a power cut the old or the new file is there, never an
        # empty one.
        with self.temporary.open("rb+") as file:
            os.fsync(file.fileno())
        self.temporary.replace(self.path)

    def discard(self) -> None:
        """Remove what was written; after ``commit`` this does nothing."""
        self.temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path; what was written there replaces ``path`` when the block ends well.

    When the block raises, the temporary file is removed and an existing ``path`` stays as it was. Raises OSError as the
    file system does (no space, no permission), and with the name of the file.

    Example:
        >>> with atomic_write(tmp_path / "notes" / "a.txt") as temporary:
        ...     _ = temporary.write_text("whole")
        >>> (tmp_path / "notes" / "a.txt").read_text()
        'whole'
    """
    pending = PendingFile(path)
    try:
        yield pending.temporary
        pending.commit()
    except OSError as error:
        pending.discard()
        if error.filename is None:  # a failed write names no file: say which one is missing now
            raise OSError(error.errno, error.strerror, str(pending.path)) from error
        raise
    except BaseException:
        pending.discard()
        raise

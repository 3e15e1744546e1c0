"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; what was written there replaces ``path`` when the block ends well.

    The temporary name keeps the suffix (writers such as OpenCV choose the format by it) and starts with a dot (folder
    listings pass over it). Missing parent folders are made. When the block raises, the temporary file is removed and
    an existing ``path`` stays as it was. Raises OSError as the file system does (no space, no permission).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile.mkstemp: its files are readable by the owner alone, and os.replace would keep that.
    temporary = path.with_name(f".{path.stem[:80]}.{secrets.token_hex(6)}{path.suffix}")
    try:
        yield temporary
        # The data must be on disk before the name is: after a power cut the old or the new file is there, never an
        # empty one.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.filename is None:  # a failed write names no file: say which one is not there now
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

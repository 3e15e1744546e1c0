"""Reading a file once: everything that is said about it, its hash, its contract, its network, is of the same bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from aweigh.runtime.errors import BadInput


def read_once(path: str | os.PathLike[str], noun: str = "file") -> bytes:
    """The bytes of a regular file, which is opened once and read once.

    The bytes are this process's own: whatever becomes of the file, they stay. A mapping of the file would end the
    process (SIGBUS) when another program shortens it.

    Args:
        path: the file.
        noun: what the file is called in messages.

    Raises:
        BadInput: no such file; a folder, a pipe or a device; a file that cannot be read, or that changed meanwhile.

    Example:
        >>> _ = (tmp_path / "notes.txt").write_bytes(b"whole")
        >>> read_once(tmp_path / "notes.txt")
        b'whole'
    """
    path = Path(path)
    try:
        # Without waiting: opening a pipe would else last until another program writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such {noun}") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise BadInput(f"{str(path)!r}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise BadInput(f"{path}: expected a {noun}, this is {_kind(before.st_mode)}")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read()
        after = os.fstat(descriptor)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from error
    finally:
        os.close(descriptor)
    if (len(content), before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise BadInput(
            f"{path}: changed while it was read; write the new {noun} under another name and rename it (mv), so that "
            "readers find the old or the new one"
        )
    return content


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"

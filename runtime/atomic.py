"""Write files so that they appear whole or not at all, and nothing of killed processes stays."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aweigh.runtime.errors import BadInput

_LEFTOVER = re.compile(r"(\..+|tmp)\.aweigh-[0-9a-f]{12}(\..*)?")
_STEM_BYTES = 80  # names have at most 255 bytes
_swept: set[Path] = set()


class PendingFile:
    """A file under a temporary name next to ``path``; ``commit`` gives it the name, ``discard`` removes it.

    The temporary name keeps the suffix (writers such as OpenCV choose the format by it) and starts with a dot (folder
    listings skip it). It is locked as long as it is written: the first file that a process writes into a folder removes
    those there that no process holds, which others left when they were killed. Missing parent folders are made.

    Attributes:
        temporary: where to write; an empty file is there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(self.path.parent)
        self._descriptor: int | None = None
        while self._descriptor is None:
            self.temporary = self.path.with_name(_temporary_name(self.path))
            self._descriptor = _create_locked(self.temporary)

    def commit(self) -> None:
        """Replace ``path`` by what was written; the new file has the mode of the old one.

        Raises OSError as the file system does; FileNotFoundError where nothing was written.
        """
        with self.temporary.open("rb+") as file:
            written = os.fstat(file.fileno())
            if written.st_size == 0 and written.st_mtime_ns == 0:
                raise FileNotFoundError(2, "nothing was written", str(self.path))
            with suppress(FileNotFoundError):
                old = self.path.lstat()
                if stat.S_ISREG(old.st_mode):
                    os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
            # The data must be on disk before the name is: after a power cut the old or the new file is there, never
            # an empty one.
            os.fsync(file.fileno())
        self.temporary.replace(self.path)
        self._unlock()

    def discard(self) -> None:
        """Remove what was written; after ``commit`` this does nothing."""
        self.temporary.unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


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


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a new folder next to ``path``, which takes its name when the block ends well and is removed otherwise.

    Missing parent folders are made. What killed processes left there is removed, as by :class:`PendingFile`.
    Raises BadInput where ``path`` exists and is not an empty folder.

    Example:
        >>> with atomic_folder(tmp_path / "set") as folder:
        ...     _ = (folder / "a.txt").write_text("whole")
        >>> [file.name for file in (tmp_path / "set").iterdir()]
        ['a.txt']
    """
    path = Path(path).absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise BadInput(f"{path}: exists and is not an empty folder; remove it or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _held_folder(lambda: path.with_name(_temporary_name(path))) as temporary:
        yield temporary
        temporary.replace(path)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yields a new folder where the system keeps temporary files, which is removed with what is in it at the end.

    Only this user may read it. It is locked as long as the block lasts: the first one that a process makes removes
    those which no process holds, left by killed ones. Raises OSError as the file system does.

    Example:
        >>> with temporary_folder() as folder:
        ...     _ = (folder / "a.txt").write_text("for a moment")
        >>> folder.exists()
        False
    """
    root = Path(tempfile.gettempdir())
    with _held_folder(lambda: root / f"tmp.aweigh-{secrets.token_hex(6)}", mode=0o700) as folder:
        yield folder


@contextmanager
def _held_folder(name: Callable[[], Path], mode: int = 0o777) -> Iterator[Path]:
    """A new, locked folder of that name; removed at the end, unless it has another name by then."""
    made: Path | None = None
    descriptor: int | None = None
    _sweep_once(name().parent)
    try:
        while descriptor is None:
            wanted = name()
            wanted.mkdir(mode)
            made = wanted
            descriptor = _locked_folder(made)
        yield wanted
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _locked_folder(path: Path) -> int | None:
    """None where another process sweeps it, or did so already."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:  # a file system without locks: there nothing is swept either
        return descriptor
    os.close(descriptor)
    return None


def _temporary_name(path: Path) -> str:
    stem = os.fsencode(path.stem)[:_STEM_BYTES].decode(errors="ignore")
    return f".{stem}.aweigh-{secrets.token_hex(6)}{path.suffix}"


def _create_locked(path: Path) -> int | None:
    """Make an empty file and lock it; None where another process swept it in between."""
    # Not tempfile.mkstemp: its files are readable by the owner only, and os.replace would keep that.
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:  # a file system without locks: there nothing is swept either
        pass
    if os.fstat(descriptor).st_nlink == 0:
        os.close(descriptor)
        return None
    os.utime(descriptor, ns=(0, 0))  # whatever is written, even nothing, changes it
    return descriptor


def _sweep_once(folder: Path) -> None:
    """Remove temporary files and folders there that no process holds; once per folder, as a listing may be long."""
    folder = folder.resolve()
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if _LEFTOVER.fullmatch(entry.name)]:
            with suppress(OSError):
                _remove_unheld(folder / name)


def _remove_unheld(path: Path) -> None:
    """Raises OSError where a process holds the file or folder, or where it may not be removed."""
    is_folder = stat.S_ISDIR(path.lstat().st_mode)
    how = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_RDWR
    descriptor = os.open(path, how | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_folder:
            path.unlink()
        elif os.fstat(descriptor).st_uid == os.geteuid():  # folders for temporary files are shared by users
            shutil.rmtree(path)
    finally:
        os.close(descriptor)

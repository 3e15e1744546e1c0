"""What every verb prints with: the two consoles, one style of progress bar, and JSON on stdout.

Results go to stdout, messages and progress to stderr. rich is imported where it is used: every ``aweigh`` command loads
this module.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aweigh.runtime.errors import printable
from aweigh.runtime.json_text import json_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_HIDDEN: ContextVar[bool] = ContextVar("progress bars are hidden", default=False)
_TABLE_COLUMNS = 160  # a file or a pipe has no width of its own, and 80 columns would fold the tables


def console() -> Console:
    """The console for results: stdout. Lines are not wrapped; tables get 160 columns where it is no terminal."""
    width = None if sys.stdout.isatty() else _TABLE_COLUMNS
    return _console(width=width)


def log_console(quiet: bool = False) -> Console:
    """The console for messages and progress: stderr, each line printed as it is; ``quiet`` prints nothing."""
    return _console(stderr=True, quiet=quiet)


def _console(**options: Any) -> Console:
    """A console that writes control characters of names out: they would be orders to the terminal."""
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(printable(text), **how)

    return PlainConsole(highlight=False, markup=False, soft_wrap=True, **options)


def progress(console: Console | None = None, *, detail: bool = False) -> Progress:
    """A progress bar with percentage, M/N and remaining time, removed at the end; nothing where it is no terminal,
    or within :func:`without_progress`.

    Args:
        console: where it is drawn; ``log_console()`` by default.
        detail: end the line with the task's field ``detail``, which ``add_task`` must then be given.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = console or log_console()
    hidden = _HIDDEN.get() or console.quiet or not console.is_terminal
    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ]
    if detail:
        columns.append(TextColumn("{task.fields[detail]}", markup=False))
    return Bars(*columns, console=console, transient=True, disable=hidden)


@contextmanager
def download_progress(name: str, console: Console | None = None) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for a download; what it gives is called with the bytes that are there, and those of all of it if known."""
    with progress(console, detail=True) as bar:
        task = bar.add_task(f"fetch {name}", total=None, detail="")
        yield lambda done, total: bar.update(task, completed=done, total=total, detail=f"{done / 1e6:.0f} MB")


@contextmanager
def without_progress(hide: bool = True) -> Iterator[None]:
    """Draw no progress bar within the block: who asks for JSON reads no terminal."""
    token = _HIDDEN.set(hide)
    try:
        yield
    finally:
        _HIDDEN.reset(token)


def emit_json(value: object) -> None:
    """One JSON document on stdout. Raises ValueError for NaN and infinity, which JSON does not have."""
    sys.stdout.write(json_text(value) + "\n")
    sys.stdout.flush()


def emit_file(path: Path) -> None:
    """A JSON document from a file to stdout, piece by piece: it need not fit into memory."""
    with path.open(encoding="utf-8") as file:
        shutil.copyfileobj(file, sys.stdout)
    sys.stdout.flush()

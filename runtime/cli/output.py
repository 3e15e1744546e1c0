"""What every verb prints with: the two consoles, one style of progress bar, and JSON on stdout.

Results go to stdout, messages and progress to stderr. rich is imported where it is used: every ``aweigh`` command loads
this module.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aweigh.runtime.json_text import json_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_TABLE_COLUMNS = 160  # a file or a pipe has no width of its own, and 80 columns would fold the tables


def console() -> Console:
    """The console for results: stdout. Lines are not wrapped; tables get 160 columns where it is no terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _TABLE_COLUMNS
    return Console(highlight=False, markup=False, soft_wrap=True, width=width)


def log_console(quiet: bool = False) -> Console:
    """The console for messages and progress: stderr, each line printed as it is; ``quiet`` prints nothing."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True, quiet=quiet)


def progress(console: Console | None = None, *, detail: bool = False) -> Progress:
    """A progress bar with percentage, M/N and remaining time, removed at the end; nothing where it is no terminal.

    Args:
        console: where it is drawn; ``log_console()`` by default.
        detail: end the line with the task's field ``detail``, which ``add_task`` must then be given.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = console or log_console()
    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ]
    if detail:
        columns.append(TextColumn("{task.fields[detail]}", markup=False))
    return Bars(*columns, console=console, transient=True, disable=console.quiet or not console.is_terminal)


def emit_json(value: object) -> None:
    """One JSON document on stdout. Raises ValueError for NaN and infinity, which JSON does not have."""
    sys.stdout.write(json_text(value) + "\n")
    sys.stdout.flush()


def emit_file(path: Path) -> None:
    """A JSON document from a file to stdout, piece by piece: it need not fit into memory."""
    with path.open(encoding="utf-8") as file:
        shutil.copyfileobj(file, sys.stdout)
    sys.stdout.flush()

"""What every benchmark does on the command line: flags of the output, the command as it is published, exit codes."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aweigh.runtime.cli.output import console
from aweigh.runtime.errors import AweighError, CannotRun
from support.reports.grid import Grid
from support.reports.layout import Layout
from support.reports.plots import draw
from support.reports.report import Report


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """With the flags of the output: ``--out``, ``--plot``, ``--markdown``."""
    parser = argparse.ArgumentParser(
        description=(doc or "").split("\n\n", 1)[0], allow_abbrev=False, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the report")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="its figures as bars")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    return parser


def run(name: str, main: Callable[[Sequence[str]], int], arguments: Sequence[str] | None = None) -> int:
    """The exit code of ``main``; errors are one line on stderr, as of ``aweigh``."""
    try:
        return main(sys.argv[1:] if arguments is None else arguments)
    except AweighError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # disk full, no permission
        print(f"{name}: {error}", file=sys.stderr)
        return CannotRun.exit_code
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130


def public_command(name: str, arguments: Sequence[str], folders: Mapping[str, str] | None = None) -> str:
    """The command, without folders of the machine: an absolute path keeps its name alone, or has one in ``folders``."""
    names = {path.rstrip("/"): shown for path, shown in (folders or {}).items() if path}

    def shown(path: re.Match[str]) -> str:
        text = path[0].rstrip("/")
        return names.get(text) or Path(text).name

    words = []
    for word in arguments:
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        value = names.get(value.rstrip("/")) or re.sub(r"(?<![\w.])(~|\.\.)?/[^\s,@;|&'\"]+", shown, value)
        words.append(shlex.quote(f"{flag}{equals}{value}"))
    return " ".join(["python", f"benchmarks/{name}", *words])


def publish(report: Report, layout: Layout, options: argparse.Namespace) -> None:
    """Write the files that the flags name, and print the tables."""
    if options.out is not None:
        report.write(options.out)
    if options.plot is not None and not draw(layout.plots, report.rows, options.plot, report.what):
        print(f"{report.kind}.py: nothing to draw", file=sys.stderr)
    show(report, layout, options.markdown)


def show(report: Report, layout: Layout, markdown: bool) -> None:
    """The tables of a report on stdout."""
    print_grids(layout.grids(report), markdown)


def print_grids(grids: Sequence[Grid], markdown: bool) -> None:
    """Tables on stdout."""
    out = console()
    for grid in grids:
        if markdown:
            print(grid.markdown())
        else:
            grid.print(out)

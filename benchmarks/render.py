"""Show reports: tables for the terminal or as Markdown, and plots.

    python benchmarks/render.py benchmarks/results/*.json [--markdown] [--plots DIR]

Every file is checked against the schema first; exit code 2 where one is no report.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from aweigh.runtime.errors import BadInput
from support.methods.report import read_report
from support.reports.layout import Layout
from support.reports.plots import draw
from support.reports.report import Report, read, read_json
from support.reports.script import run, show


def open_report(path: Path) -> Report:
    """A report; of methods.py also the form of before there was a schema. Raises BadInput for anything else."""
    old = "schema" not in read_json(path)
    return read_report(path) if old else read(path)


def layout_of(report: Report) -> Layout:
    """The layout of the command that wrote the report. Raises BadInput for a kind that no command writes."""
    folder = Path(__file__).parent
    kinds = sorted(path.stem for path in folder.glob("*.py") if path.stem != Path(__file__).stem)
    if report.kind not in kinds:
        raise BadInput(f"kind {report.kind!r}: expected one of {', '.join(kinds)}")
    layout: Layout = import_module(report.kind).LAYOUT
    return layout


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("reports", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument("--markdown", action="store_true", help="tables of Markdown")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="a PNG for each file")
    options = parser.parse_args(arguments)
    reports = [(path, open_report(path)) for path in options.reports]
    for path, report in reports:
        print(f"{path.name}: {report.what} ({report.date}, {report.machine['cpu']}, {report.machine['cores']} cores)")
        print(f"  {report.command}")
        for name, hardware in report.about.get("theirs_on", {}).items():
            print(f"  theirs, {name}: {hardware}")
        layout = layout_of(report)
        show(report, layout, options.markdown)
        if options.plots is not None:
            draw(layout.plots, report.rows, options.plots / f"{path.stem}.png", report.what)
    return 0


if __name__ == "__main__":
    sys.exit(run("render.py", main))

"""Show reports: tables for the terminal or as Markdown, and plots.

    python benchmarks/render.py benchmarks/results/*.json [--markdown] [--plots DIR]

Every file is checked against the schema first; exit code 2 where one is no report.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from methods import read_report
from plot_layouts import plots_of
from plots import draw
from report import Report, read, read_json
from script import run, show


def open_report(path: Path) -> Report:
    """A report; of methods.py also the form of before there was a schema. Raises BadInput for anything else."""
    old = "schema" not in read_json(path)
    return read_report(path) if old else read(path)


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
        show(report, options.markdown)
        if options.plots is not None:
            draw(plots_of(report), report.rows, options.plots / f"{path.stem}.png", report.what)
    return 0


if __name__ == "__main__":
    sys.exit(run("render.py", main))

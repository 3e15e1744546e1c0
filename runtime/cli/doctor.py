"""``aweigh doctor``: flags and tables. The machine is examined here, a data set by the training stage."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aweigh.runtime.errors import BadInput, CannotRun

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 3


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the verb's flags."""
    parser.add_argument("--data", help="examine this data set (folder or data.yaml); without it, the installation")
    parser.add_argument(
        "--split", action="append", default=[], metavar="NAME", help="repeatable (default train, val and test)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write doctor.html (with the worst pictures), doctor.json"
    )
    parser.add_argument("--model", default="r18", help="whose input size objects are judged at (default %(default)s)")
    parser.add_argument("--method", default="dw", help="whose points objects are judged by (default %(default)s)")
    parser.add_argument("--imgsz", default="auto", help="N, HxW or auto, as for training (default %(default)s)")


def run_doctor(arguments: argparse.Namespace) -> int:
    """Exit code 0, or 1 where a finding is of grade error."""
    from aweigh.runtime.cli.output import console, emit_json
    from aweigh.runtime.machine.doctor import examine_machine

    if arguments.data is None:
        if arguments.out is not None or arguments.split:
            raise BadInput("--out and --split belong to --data")
        report = examine_machine(arguments.provided.get("torch_facts"))
        show = _print_machine
    else:
        examine_data = arguments.provided.get("examine_data")
        if examine_data is None:
            raise CannotRun("--data needs the readers of data sets: pip install 'aweigh[train]'")
        report = examine_data(arguments)
        show = _print_data
    if arguments.json:
        emit_json(report)
    else:
        show(report, console())
    return 0 if report["passed"] else 1


def _print_machine(report: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    table = Table(show_header=False, title="this machine", title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in report["machine"].items():
        table.add_row(name, str(value))
    gpu, torch = report["gpu"], report["torch"]
    table.add_row("GPU", "none seen" if gpu is None else f"{gpu['name']}, driver {gpu['driver']}")
    for name, backend in report["backends"].items():
        devices = ", ".join(backend["devices"]) or backend.get("error", "none")
        table.add_row(name, f"{backend['version']}: {devices}")
    table.add_row(
        "torch", "not installed" if torch is None else f"{torch['version']}: {', '.join(torch['devices']) or 'cpu'}"
    )
    for name, extra in report["extras"].items():
        missing = ", ".join(extra["missing"])
        table.add_row(f"aweigh[{name}]", f"lacks {missing}: {extra['install']}" if missing else "complete")
    console.print(table)
    for finding in report["findings"]:
        console.print(f"{finding['grade']}: {finding['meaning']}; {finding['advice']}")


def _print_data(report: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    names = [split["name"] for split in report["splits"]]
    table = Table(title=f"{report['data']}: objects by class", title_justify="left")
    table.add_column("class")
    for name in names:
        table.add_column(name, justify="right")
    for row in report["classes"]:
        table.add_row(row["name"], *(str(row["objects"].get(name, "-")) for name in names))
    pictures = (f"{split['objects']} in {split['pictures']} pictures" for split in report["splits"])
    table.add_row("all", *pictures, style="bold")
    console.print(table)
    for finding in report["findings"]:
        console.print(
            f"{finding['grade']}: {finding['kind']}, {finding['split']}: {finding['count']} ({finding['meaning']})"
        )
        for case in finding["cases"][:_SHOWN]:
            console.print(f"  {case['file']}: {case['detail']}")
        if finding["count"] > _SHOWN:
            console.print(f"  and {finding['count'] - _SHOWN} more, see --json or --out")
        console.print(f"  what to do: {finding['advice']}")
    console.print(f"{report['errors']} errors, {report['warnings']} warnings, {report['notes']} notes")
    if report["page"]:
        console.print(f"page: {report['page']}")

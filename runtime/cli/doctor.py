"""The verb doctor: is this installation complete, is this data set sound?

The machine is examined by the runtime, a data set by the training stage.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aweigh.runtime.cli.output import console, emit_json
from aweigh.runtime.cli.parsing import add_outside_images
from aweigh.runtime.errors import BadInput, CannotRun, install_advice

if TYPE_CHECKING:
    from rich.console import Console

    from aweigh.runtime.cli.provided import DataReport, Provided
    from aweigh.runtime.machine.doctor import MachineReport

_SHOWN = 3  # cases of a finding listed in the terminal


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """The flags of ``aweigh doctor``."""
    parser.add_argument("--data", help="examine this data set (folder or data.yaml) instead of the installation")
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="NAME",
        help="split to examine; repeatable (default: train, val and test)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write doctor.html, with images and their boxes, and doctor.json to DIR"
    )
    for name in ("val", "test"):
        parser.add_argument(
            f"--{name}-share", type=float, default=0.0, help=f"examine the data as training with --{name}-share does"
        )
    parser.add_argument("--split-seed", type=int, default=0, help="seed of these shares (default %(default)s)")
    add_outside_images(parser)
    parser.add_argument(
        "--model", default="r18", help="network whose input size the objects are judged at (default %(default)s)"
    )
    parser.add_argument(
        "--method", default="dw", help="method whose points the objects are judged by (default %(default)s)"
    )
    parser.add_argument(
        "--imgsz", default="auto", help="size of the network input: N, HxW or auto, as for training (default auto)"
    )


def run_doctor(arguments: argparse.Namespace) -> int:
    """Exit code 0, or 1 where a finding is an error."""
    from aweigh.runtime.machine.doctor import examine_machine

    provided: Provided = arguments.provided
    report: MachineReport | DataReport
    if arguments.data is None:
        if arguments.out is not None or arguments.split:
            raise BadInput("--out and --split belong to --data")
        report = machine = examine_machine(provided.torch_facts)
        if not arguments.json:
            _print_machine(machine, console())
    else:
        report = _examine_data(arguments, provided)
        if not arguments.json:
            _print_data(report.to_dict(), console())
    if arguments.json:
        emit_json(report.to_dict())
    return 0 if report.passed else 1


def _examine_data(arguments: argparse.Namespace, provided: Provided) -> DataReport:
    if provided.examine_data is None:
        raise CannotRun(f"--data needs the readers of data sets: {install_advice('train')}")
    return provided.examine_data(
        arguments.data,
        tuple(arguments.split),
        model=arguments.model,
        method=arguments.method,
        imgsz=arguments.imgsz,
        out=arguments.out,
        val_share=arguments.val_share,
        test_share=arguments.test_share,
        split_seed=arguments.split_seed,
        outside_images=arguments.outside_images,
    )


def _print_machine(report: MachineReport, out: Console) -> None:
    from rich.table import Table

    table = Table(show_header=False, title="this machine", title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in report.machine.items():
        table.add_row(name, str(value))
    gpu, torch = report.gpu, report.torch
    table.add_row("GPU", "none seen" if gpu is None else f"{gpu.name}, driver {gpu.driver}")
    for name, backend in report.backends.items():
        table.add_row(name, f"{backend.version}: {', '.join(backend.devices) or backend.error or 'none'}")
    table.add_row(
        "torch", "not installed" if torch is None else f"{torch.version}: {', '.join(torch.devices) or 'cpu'}"
    )
    for name, extra in report.extras.items():
        missing = ", ".join(extra.missing)
        table.add_row(f"aweigh[{name}]", f"lacks {missing}: {extra.install}" if missing else "complete")
    out.print(table)
    for finding in report.findings:
        out.print(f"{finding.grade}: {finding.meaning}; {finding.advice}")


def _print_data(report: dict[str, Any], out: Console) -> None:
    from rich.table import Table

    names = [split["name"] for split in report["splits"]]
    table = Table(title=f"{report['data']}: objects by class", title_justify="left")
    table.add_column("class")
    for name in names:
        table.add_column(name, justify="right")
    for row in report["classes"]:
        table.add_row(row["name"], *(str(row["objects"].get(name, "-")) for name in names))
    images = (f"{split['objects']} in {split['pictures']} images" for split in report["splits"])
    table.add_row("all", *images, style="bold")
    out.print(table)
    for finding in report["findings"]:
        out.print(
            f"{finding['grade']}: {finding['kind']}, {finding['split']}: {finding['count']} ({finding['meaning']})"
        )
        for case in finding["cases"][:_SHOWN]:
            out.print(f"  {case['file']}: {case['detail']}")
        if finding["count"] > _SHOWN:
            out.print(f"  and {finding['count'] - _SHOWN} more, see --json or --out")
        out.print(f"  what to do: {finding['advice']}")
    out.print(f"{report['errors']} errors, {report['warnings']} warnings, {report['notes']} notes")
    if report["page"]:
        out.print(f"page: {report['page']}")

"""``aweigh conformance``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table

from aweigh.runtime.cli.output import console, emit_json


def add_conformance(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("--golden", required=True, type=Path, help="folder of METHOD/CASE.npz")


def run_conformance(arguments: argparse.Namespace) -> int:
    """Exit code 1 where a case disagrees."""
    from aweigh.train import conformance

    report = conformance.run_conformance(arguments.golden).to_dict()
    if arguments.json:
        emit_json(report)
    else:
        table = Table(title=f"conformance with {arguments.golden}", title_justify="left")
        for name in ("method", "case", "quantity", "largest error", "tolerance", "status"):
            table.add_column(name, justify="right" if name in ("largest error", "tolerance") else "left")
        for case in report["cases"]:
            error, tolerance = ("" if case[key] is None else f"{case[key]:.1e}" for key in ("max_rel_err", "tol"))
            table.add_row(case["method"], case["case"], case["quantity"], error, tolerance, case["status"])
        console().print(table)
        console().print("passed" if report["passed"] else "FAILED")
    return 0 if report["passed"] else 1

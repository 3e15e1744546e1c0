"""The verb inspect: what a model file holds."""

from __future__ import annotations

import argparse


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """The flags of ``aweigh inspect``."""
    parser.add_argument("--model", required=True, metavar="FILE", help="exported file")


def run_inspect(arguments: argparse.Namespace) -> int:
    from aweigh.runtime.cli.output import console, emit_json
    from aweigh.runtime.inspection import inspect_model, print_inspection

    facts = inspect_model(arguments.model)
    if arguments.json:
        emit_json(facts)
    else:
        print_inspection(facts, console())
    return 0

"""The verbs inspect and card: what a model file says of itself, as a table, as JSON, as a page or as a model card."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aweigh.runtime.cli.opening import MODEL_HELP, model_file
from aweigh.runtime.cli.output import console, emit_json

if TYPE_CHECKING:
    from rich.console import Console

    from aweigh.runtime.card.model_card import CardOptions
    from aweigh.runtime.inspection import ModelFacts


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """The flags of ``aweigh inspect``."""
    parser.add_argument("--model", required=True, metavar="FILE", help=MODEL_HELP)
    parser.add_argument("--html", type=Path, metavar="FILE.html", help="write a page, which needs no other file, too")


def run_inspect(arguments: argparse.Namespace) -> int:
    """Exit code 0."""
    from aweigh.runtime.inspection import inspect_model

    facts = inspect_model(model_file(arguments.model))
    if arguments.html is not None:
        from aweigh.runtime.card.model_page import write_page

        write_page(facts, arguments.html)
    if arguments.json:
        emit_json(facts.to_dict())
    else:
        print_facts(facts, console())
    return 0


def add_card(parser: argparse.ArgumentParser) -> None:
    """The flags of ``aweigh card``."""
    parser.add_argument("--model", required=True, metavar="FILE", help=MODEL_HELP)
    add_card_words(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="default: standard output")


def add_card_words(parser: argparse.ArgumentParser) -> None:
    """The flags for what a file does not know of itself, which ``card_options`` reads."""
    parser.add_argument("--license", metavar="NAME", help="of the model, as apache-2.0; default: not stated")
    parser.add_argument("--dataset", metavar="NAME", help="that it was trained on; default: not stated")
    parser.add_argument(
        "--starting-weights",
        metavar="WORDS",
        help="what training started from, with its licence; default: what the file records",
    )


def card_options(arguments: argparse.Namespace) -> CardOptions:
    """The flags' values."""
    from aweigh.runtime.card.model_card import CardOptions

    return CardOptions(arguments.license, arguments.dataset, arguments.starting_weights)


def run_card(arguments: argparse.Namespace) -> int:
    """Exit code 0."""
    from aweigh.runtime.atomic import atomic_write
    from aweigh.runtime.card.model_card import model_card
    from aweigh.runtime.inspection import inspect_model

    facts = inspect_model(model_file(arguments.model))
    text = model_card(facts, card_options(arguments))
    if arguments.out is not None:
        with atomic_write(arguments.out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if arguments.json:
        emit_json({"card": text, "out": None if arguments.out is None else str(arguments.out)})
    elif arguments.out is None:
        print(text, end="")
    return 0


def print_facts(facts: ModelFacts, out: Console) -> None:
    """Print them as a table."""
    from rich.table import Table

    from aweigh.runtime.card.fact_rows import fact_rows

    table = Table(show_header=False, title=str(facts.file), title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fact_rows(facts):
        table.add_row(name, value)
    out.print(table)

"""The verbs push and pull: a model file to a Hugging Face hub and back, with its receipt."""

from __future__ import annotations

import argparse
from pathlib import Path

from aweigh.runtime.cli.inspect import add_card_words, card_options
from aweigh.runtime.cli.output import download_progress, emit_json


def add_push(parser: argparse.ArgumentParser) -> None:
    """The flags of ``aweigh push``."""
    parser.add_argument("--model", required=True, type=Path, metavar="FILE", help="exported ONNX file")
    parser.add_argument(
        "--to",
        required=True,
        metavar="hf:owner/name",
        help="repository, with /FILE and @branch where wanted (default model.onnx on main); made where there is none",
    )
    add_card_words(parser)
    parser.add_argument(
        "--no-card", dest="card", action="store_false", help="leave the repository's README.md as it is"
    )
    parser.add_argument("--public", action="store_true", help="make a new repository for everyone, not for you alone")
    parser.add_argument("--message", default="Upload with aweigh", metavar="TEXT", help="of the commit")


def run_push(arguments: argparse.Namespace) -> int:
    """Exit code 0."""
    from aweigh.runtime.hub.push import PushPlan, push

    card = card_options(arguments) if arguments.card else None
    pushed = push(PushPlan(arguments.model, arguments.to, card, arguments.public, arguments.message))
    if arguments.json:
        emit_json(pushed.to_dict())
        return 0
    print(f"{', '.join(pushed.files)}: {pushed.commit}")
    print(
        f"receipt: {pushed.verdict}" if pushed.verdict else "there is no receipt next to the file, so none went along"
    )
    print(f"aweigh predict --model {pushed.source} --source IMAGES")
    return 0


def add_pull(parser: argparse.ArgumentParser) -> None:
    """The flags of ``aweigh pull``."""
    parser.add_argument(
        "--model", required=True, metavar="hf:owner/name", help="repository, with /FILE and @revision where wanted"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.onnx", help="where it is to lie")


def run_pull(arguments: argparse.Namespace) -> int:
    """0, and 1 where the receipt in the repository is about another file."""
    from aweigh.runtime.hub.pull import pull

    pulled = pull(arguments.model, arguments.out, download_progress)
    if arguments.json:
        emit_json(pulled.to_dict())
        return 0
    print(f"{pulled.file}, sha256 {pulled.sha256}")
    print(f"receipt: {pulled.verdict}, about this file: {pulled.receipt}" if pulled.receipt else "receipt: none there")
    return 0

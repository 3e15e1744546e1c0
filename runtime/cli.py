"""The root of the command line: ``aweigh VERB --key value`` (``key=value`` is taken too).

Each stage registers its verbs through the entry-point group ``aweigh.verbs``; a stage whose extra is not installed
leaves its verbs known by name, so that calling one says what to install.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points, version
from typing import Any, NoReturn

from aweigh.runtime.errors import AweighError, BadInput, CannotRun

# Known without importing the stage, so that a missing extra can be named.
VERBS = {
    "train": ("train", "train a detector"),
    "val": ("train", "average precision of a checkpoint or an exported file"),
    "export": ("export", "write one graph with everything behind the JPEG decoder, and its receipt"),
    "verify": ("export", "repeat the receipt for a file against the checkpoint it came from"),
    "predict": ("cpu", "detect in pictures and folders"),
    "bench": ("cpu", "latency by stage, percentiles, memory"),
    "inspect": ("cpu", "tell all about a model file"),
    "conformance": ("train", "compare the methods with numbers of their authors' code"),
    "demo": ("export", "generate data, train, export, prove, run: the whole way in three minutes"),
}

Run = Callable[[argparse.Namespace], int | None]


class Verbs:
    """What a stage's ``register`` function gets: add verbs to it."""

    def __init__(self, subparsers: Any) -> None:
        self._subparsers = subparsers
        self.names: set[str] = set()

    def add(self, name: str, run: Run) -> argparse.ArgumentParser:
        """A parser for the verb; ``run`` gets the parsed arguments and returns the exit code (None is 0).

        Every verb has ``--json``: one JSON object on stdout, everything else on stderr.
        """
        summary = VERBS[name][1]
        parser: argparse.ArgumentParser = self._subparsers.add_parser(
            name, help=summary, description=summary, allow_abbrev=False
        )
        parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
        parser.set_defaults(run=run)
        self.names.add(name)
        return parser


def emit_json(value: object) -> None:
    """One JSON document on stdout; NaN and infinity are refused, for JSON has neither."""
    sys.stdout.write(json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code (0 done, 1 a check failed, 2 bad usage or input, 3 cannot run here)."""
    arguments = _normalise(list(sys.argv[1:] if argv is None else argv))
    try:
        parser = _parser()
        namespace = parser.parse_args(arguments)
        return int(namespace.run(namespace) or 0)
    except AweighError as error:
        print(f"aweigh: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # The ones a user meets: disk full, no permission, a name that is a folder.
        print(f"aweigh: {error}", file=sys.stderr)
        return CannotRun.exit_code
    except KeyboardInterrupt:
        print("aweigh: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aweigh", description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"aweigh {version('aweigh')}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs = Verbs(subparsers)
    missing: dict[str, str] = {}
    for point in sorted(entry_points(group="aweigh.verbs"), key=lambda p: p.name):
        try:
            point.load()(verbs)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("aweigh"):
                raise
            missing[point.name] = error.name or str(error)
    for name, (extra, summary) in VERBS.items():
        if name not in verbs.names:
            absent = subparsers.add_parser(name, help=f"{summary} (needs aweigh[{extra}])", add_help=False)
            absent.set_defaults(run=_needs(name, extra, missing.get(extra, extra)))
            absent.add_argument("rest", nargs=argparse.REMAINDER)
    return parser


def _needs(verb: str, extra: str, module: str) -> Callable[[argparse.Namespace], NoReturn]:
    def run(_: argparse.Namespace) -> NoReturn:
        raise CannotRun(f"aweigh {verb} needs the module {module!r}: pip install 'aweigh[{extra}]'")

    return run


def _normalise(arguments: list[str]) -> list[str]:
    """``key=value`` becomes ``--key=value``, and ``_`` in flags becomes ``-``."""
    result = []
    for argument in arguments:
        match = re.fullmatch(r"(--)?([A-Za-z][A-Za-z0-9_-]*)=(.*)", argument, flags=re.DOTALL)
        if match:
            result.append(f"--{match[2].replace('_', '-')}={match[3]}")
        elif argument.startswith("--"):
            result.append(argument.replace("_", "-"))
        else:
            result.append(argument)
    return result


def parse_size(text: str) -> tuple[int, int]:
    """``N`` or ``HxW`` (``H,W`` too) as (height, width) in pixels. Raises BadInput unless 32 to 8192."""
    match = re.fullmatch(r"(\d+)(?:[xX,](\d+))?", text.strip())
    if match:
        height = int(match[1])
        width = int(match[2] or height)
        if 32 <= height <= 8192 and 32 <= width <= 8192:
            return height, width
    raise BadInput(f"--imgsz {text!r}: expected N or HxW, each from 32 to 8192 pixels, for example 320 or 288x384")


if __name__ == "__main__":
    sys.exit(main())

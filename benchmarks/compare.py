"""Any two things in turns, A B B A: model files or shell commands, and how many times as fast B is.

    python benchmarks/compare.py --a fp32.onnx --b int8.onnx --at-least 2.4 --out FILE.json
    python benchmarks/compare.py --a fp32.onnx --b fp32.onnx@threads=1
    python benchmarks/compare.py --a 'cmd:python old.py' --b 'cmd:python new.py' --rounds 12

Files are opened in one process and take one image each per round (``--what network`` runs the graph alone,
``total`` from the JPEG to boxes); a command is timed from start to end. ``--b`` can be repeated: all take turns with A.
The ratio is A's time over B's, round by round; its interval covers the median with 95 %.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aweigh.runtime.bench.worker import synthetic_jpeg
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.images.preprocess import prepare
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.machine.conditions import between, snapshot
from support.artifact import Artifact, add_settings, parse_artifact
from support.paired import in_turns, paired_ratio
from support.reports.grid import Column, interval
from support.reports.layout import QUIET, Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run

COMMAND = "cmd:"
Side = tuple[dict[str, Any], Callable[[], object]]


LAYOUT = Layout(
    tables(
        {
            "in turns": (
                Column("A", "a.model"),
                Column("B", "b.model"),
                Column("A ms", "a_ms", ".2f"),
                Column("B ms", "b_ms", ".2f"),
                Column("times as fast as A", interval("times_as_fast")),
                Column("confidence", "times_as_fast.confidence", ".1%"),
                Column("rounds", "rounds"),
                QUIET,
            )
        }
    ),
    plots=(Bars("times as fast as A", ("b.model",), "times_as_fast", "ratio", 1.0),),
)


def command_side(command: str) -> Side:
    """A shell command; its output is thrown away. Raises CannotRun where it fails."""

    def once() -> None:
        done = subprocess.run(command, shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise CannotRun(f"{command!r} ended with exit code {done.returncode}: {last}")

    shown = " ".join(Path(word).name if word.startswith("/") else word for word in shlex.split(command))
    return {"model": shown, "command": True}, once


def artifact_side(artifact: Artifact, options: argparse.Namespace, stack: contextlib.ExitStack) -> Side:
    """One picture (or a batch of it) through a file; the file is closed with ``stack``."""
    detector = stack.enter_context(artifact.open())
    jpeg = Path(options.source).read_bytes() if options.source else synthetic_jpeg()
    about = {**artifact.about(detector), "batch": options.batch}
    if options.what == "total":
        return about, (lambda: detector([jpeg] * options.batch)) if options.batch > 1 else (lambda: detector(jpeg))
    batch_u8 = np.repeat(prepare(read_image(jpeg), detector.spec.input)[0][None], options.batch, axis=0)
    return about, lambda: detector.raw(batch_u8)


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--a", required=True, metavar="FILE[@NAME=VALUE,...] | cmd:COMMAND")
    parser.add_argument("--b", required=True, action="append", metavar="LIKE A", help="repeatable")
    parser.add_argument(
        "--what", default="network", choices=("network", "total"), help="of files (default %(default)s)"
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--source", help="picture; default: a generated JPEG of 1280x720")
    parser.add_argument("--rounds", type=int, default=40, help="default %(default)s")
    parser.add_argument("--at-least", type=float, metavar="X", help="exit code 1 where a median is below")
    add_settings(parser)
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.batch < 1:
        raise BadInput(f"--rounds {options.rounds}, --batch {options.batch}: expected at least 1")
    device = options.device or "cpu"
    with contextlib.ExitStack() as stack:
        sides = [
            command_side(text.removeprefix(COMMAND))
            if text.startswith(COMMAND)
            else artifact_side(parse_artifact(text, options), options, stack)
            for text in (options.a, *options.b)
        ]
        before = snapshot(device)
        times_ms = in_turns({str(i): once for i, (_, once) in enumerate(sides)}, options.rounds)
        conditions = between(before, snapshot(device))
    first_ms = times_ms.pop("0")
    rows: list[Row] = [
        {
            "a": sides[0][0],
            "b": about,
            "a_ms": float(np.median(first_ms)),
            "b_ms": float(np.median(taken_ms)),
            "times_as_fast": paired_ratio(first_ms, taken_ms).to_dict(),
            "rounds": options.rounds,
            "conditions": conditions.to_dict(),
            "noise": conditions.noise,
        }
        for (about, _), taken_ms in zip(sides[1:], times_ms.values(), strict=True)
    ]
    timed = {"network": "the graph alone", "total": "JPEG bytes to boxes"}[options.what]
    about = {"limit": options.at_least, "timed": timed, "rounds_ms": {"a": first_ms, "b": list(times_ms.values())}}
    what = "how many times as fast as A, in turns"
    publish(Report.here("compare", what, rows, public_command("compare.py", arguments), about), LAYOUT, options)
    limit = options.at_least
    return int(limit is not None and any(row["times_as_fast"]["median"] < limit for row in rows))


if __name__ == "__main__":
    sys.exit(run("compare.py", main))

"""The runtime's verbs: predict, inspect, bench. Arguments and output here, the work in the rooms of those names."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aweigh.runtime.errors import BadInput
from aweigh.runtime.flags import add_opening, opening

if TYPE_CHECKING:
    from rich.console import Console

    from aweigh.runtime.cli import Verbs
    from aweigh.runtime.detections import Detections


def register(verbs: Verbs) -> None:
    """Entry point ``aweigh.verbs``. Nothing heavy is imported before a verb runs."""
    parser = verbs.add("predict", run_predict)
    parser.add_argument("--model", required=True, metavar="FILE", help="an exported file")
    parser.add_argument(
        "--source", required=True, action="append", metavar="WHERE", help="picture, folder or glob pattern; repeatable"
    )
    parser.add_argument("--conf", type=float, metavar="X", help="only scores above it; the file's threshold is a floor")
    parser.add_argument("--out", type=Path, metavar="DIR", help="pictures with boxes and detections.json go here")
    parser.add_argument(
        "--on-error",
        choices=("skip", "stop"),
        default="skip",
        help="unreadable pictures: name them, go on and end with exit code 2 (skip), or end at the first (stop)",
    )
    add_opening(parser)

    parser = verbs.add("inspect", run_inspect)
    parser.add_argument("--model", required=True, metavar="FILE", help="an exported file")

    parser = verbs.add("bench", run_bench)
    parser.add_argument("--model", required=True, action="append", metavar="FILE", help="an exported file; repeatable")
    parser.add_argument("--batch", default="1", metavar="N,N", help="batch sizes (default 1)")
    parser.add_argument("--source", metavar="WHERE", help="pictures to take; by default a generated JPEG of 1280x720")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--iters", type=int, metavar="N", help="batches per model and batch size")
    length.add_argument("--seconds", type=float, default=5.0, metavar="S", help="or seconds (default 5)")
    add_opening(parser)


def run_predict(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from aweigh.runtime.cli import emit_json
    from aweigh.runtime.detector import Detector
    from aweigh.runtime.predict import predict

    log = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    out = Console(highlight=False, markup=False, soft_wrap=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with (
        Detector(arguments.model, **opening(arguments)) as detector,
        Progress(*columns, console=log, disable=not log.is_terminal, transient=True) as progress,
    ):
        if detector.precision != detector.spec.precision:
            log.print(f"aweigh: a file of {detector.spec.precision}, computed in {detector.precision} here")
        task = progress.add_task("predict", total=None)

        def on_picture(path: Path, found: Detections | None, reason: str | None) -> None:
            progress.advance(task)
            if found is None:
                log.print(f"aweigh: skipped: {reason}")
            elif not arguments.json:
                out.print(f"{path}: {found.summary()}")

        result = predict(
            detector,
            arguments.source,
            arguments.conf,
            arguments.out,
            stop_on_error=arguments.on_error == "stop",
            on_picture=on_picture,
            on_total=lambda total: progress.update(task, total=total),
        )
    if arguments.json:
        emit_json(result.entries)
    if arguments.out is not None:
        log.print(f"{len(result.saved)} pictures and detections.json written to {arguments.out}")
    if result.failures:
        count = len(result.failures)
        raise BadInput(f"{count} of {count + len(result.entries)} pictures could not be read, see above")
    return 0


def run_inspect(arguments: argparse.Namespace) -> int:
    from aweigh.runtime.cli import emit_json
    from aweigh.runtime.inspection import inspect_model, print_inspection

    facts = inspect_model(arguments.model)
    if arguments.json:
        emit_json(facts)
    else:
        print_inspection(facts, _tables())
    return 0


def run_bench(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from aweigh.runtime.bench import BenchPlan, bench, print_bench
    from aweigh.runtime.cli import emit_json

    plans = [
        BenchPlan(
            model=model,
            batch=batch,
            **opening(arguments),
            source=arguments.source,
            iterations=arguments.iters,
            seconds=arguments.seconds,
        )
        for model in arguments.model
        for batch in parse_batches(arguments.batch)
    ]
    log = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=log, disable=not log.is_terminal, transient=True) as progress:
        task = progress.add_task("bench", total=len(plans))
        report = bench(plans, on_result=lambda result: progress.advance(task))
    if arguments.json:
        emit_json(report)
    else:
        print_bench(report, _tables())
    return 0


def _tables() -> Console:
    """A console for tables; a file or a pipe has no width of its own, and 80 columns would fold them."""
    from rich.console import Console

    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 160)


def parse_batches(text: str) -> list[int]:
    """``1,8`` as numbers. Raises BadInput for anything but positive integers."""
    if not re.fullmatch(r"[1-9]\d{0,4}(,[1-9]\d{0,4})*", text):
        raise BadInput(f"--batch {text!r}: expected positive numbers with commas between, for example 1,8")
    return list(dict.fromkeys(int(part) for part in text.split(",")))

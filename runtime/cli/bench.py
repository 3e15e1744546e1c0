"""The verb bench: latency and memory of exported files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

from aweigh.runtime.cli.numbers import parse_counts
from aweigh.runtime.cli.opening import MODEL_HELP, add_opening, model_file, read_opening
from aweigh.runtime.cli.output import console, emit_json, progress

if TYPE_CHECKING:
    from rich.console import Console

    from aweigh.runtime.bench.result import BenchReport, BenchResult


def add_bench(parser: argparse.ArgumentParser) -> None:
    """The flags of ``aweigh bench``."""
    parser.add_argument("--model", required=True, action="append", metavar="FILE", help=f"{MODEL_HELP}; repeatable")
    parser.add_argument("--batch", default="1", metavar="N,N", help="batch sizes to measure (default 1)")
    parser.add_argument(
        "--concurrency",
        default="1",
        metavar="N,N",
        help="numbers of clients to measure; each client is a thread that sends batch after batch (default 1)",
    )
    parser.add_argument(
        "--source",
        metavar="WHERE",
        help="image, folder or glob pattern to measure with (default: a generated JPEG of 1280x720 pixels)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--iters", type=int, metavar="N", help="batches to measure, for each model and batch size")
    length.add_argument(
        "--seconds", type=float, default=5.0, metavar="S", help="or seconds, at least ten batches (default 5)"
    )
    parser.add_argument(
        "--explain", action="store_true", help="print below the table what each column contains, and the machine"
    )
    add_opening(parser)


def run_bench(arguments: argparse.Namespace) -> int:
    """Exit code 0."""
    from aweigh.runtime.bench.plan import BenchPlan
    from aweigh.runtime.bench.run import bench_models

    opening = read_opening(arguments)
    plans = [
        BenchPlan(
            model=model,
            batch=batch,
            opening=opening,
            source=arguments.source,
            iterations=arguments.iters,
            seconds=arguments.seconds,
            concurrency=concurrency,
        )
        for model in map(model_file, arguments.model)
        for batch in parse_counts(arguments.batch, "--batch")
        for concurrency in parse_counts(arguments.concurrency, "--concurrency")
    ]
    with progress() as bar:
        task = bar.add_task("bench", total=len(plans))
        report = bench_models(plans, on_result=lambda result: bar.advance(task))
    if arguments.json:
        emit_json(report.to_dict())
    else:
        print_bench(report, console(), explain=arguments.explain)
    return 0


def print_bench(report: BenchReport, out: Console, explain: bool = False) -> None:
    """Print the results as a table and a few lines on each.

    Args:
        explain: print also what the columns contain and where they were measured.
    """
    from rich.table import Table

    table = Table(title="milliseconds per batch: p50 / p90 / p99")
    stages = [f.name for f in fields(report.results[0].stages)]
    for name in ("model", "batch", *stages, "post in graph", "fps", "peak MB"):
        table.add_column(name, justify="left" if name == "model" else "right", overflow="fold")
    for result in report.results:
        columns = [getattr(result.stages, stage) for stage in stages]
        cells = [f"{c.p50_ms:.2f}\n{c.p90_ms:.2f}\n{c.p99_ms:.2f}" for c in columns]
        share, peak_mb = result.post_share, result.memory_peak_mb
        table.add_row(
            f"{result.model}\n{result.height}x{result.width} {_precision(result)} {result.post}\n"
            f"{result.backend}, {result.device}, {result.threads} threads, {result.concurrency} at once",
            str(result.batch),
            *cells,
            "-" if share is None else f"{share:.1%}\n{result.post_ms:.2f} ms",
            f"{result.fps:.1f}",
            "-" if peak_mb is None else f"{peak_mb:.0f}",
        )
    out.print(table)
    for result in report.results:
        for line in _lines(result):
            out.print(f"{result.model}, batch {result.batch}: {line}")
    if not explain:
        out.print("--explain prints what the columns contain, and the machine")
        return
    for name, text in report.timed.items():
        out.print(f"{name}: {text}")
    out.print("machine: " + ", ".join(f"{k} {v}" for k, v in report.machine.items()))


def _lines(result: BenchResult) -> Iterator[str]:
    cold = result.cold_start
    yield (
        f"cold start {cold.total_ms:.0f} ms (import {cold.import_ms:.0f}, open {cold.open_ms:.0f}, first batch "
        f"{cold.first_ms:.0f})"
    )
    if result.device_memory is not None:
        yield _device_memory(result.device_memory)
    if result.device_used_mb is not None:
        yield f"{result.device_used_mb:.0f} MB of the GPU's memory"
    if result.jit_ms is not None:
        yield f"kernels compiled, or read from their cache, in {result.jit_ms:.0f} ms of opening"
    if result.network_device is not None:
        yield f"network by the GPU's clock {result.network_device.p50_ms:.2f} ms"
    if noise := result.conditions.noise:
        yield f"{noise}; the times are longer than on a free machine"


def _precision(result: BenchResult) -> str:
    stored, computed = result.precision, result.precision_computed
    return stored if stored == computed else f"{stored} (computed in {computed})"


def _device_memory(memory: dict[str, int | None]) -> str:
    parts = [
        f"{name} {value / 1e6:.1f} MB"
        for name, value in memory.items()
        if value is not None and name not in ("lanes", "device_total")
    ]
    return f"{memory['lanes']} contexts, {', '.join(parts)}"

"""Latency by stage: percentiles, batches and clients, cold start, warm-up, clocks; the GPU by both clocks.

    python benchmarks/latency.py --model FILE[@threads=2] --batch 1,4 --concurrency 1,2 --out FILE.json

Each model, batch and number of clients is measured by ``aweigh bench`` in a process of its own. ``--repeat`` does the
whole list again, so that a noise of minutes shows as a difference between rows. ``--limit-input-ms`` and
``--limit-overhead-ms`` set the exit code: medians of one client at batch 1.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aweigh.runtime.bench.plan import explain
from aweigh.runtime.bench.result import BenchResult
from aweigh.runtime.bench.run import bench_models
from aweigh.runtime.cli.numbers import parse_counts
from support.artifact import add_settings, parse_artifact
from support.reports.grid import Column, value_at
from support.reports.layout import QUIET, SETTINGS_COLUMNS, Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run


def _percentiles(name: str) -> Column:
    path = name if name in ("input", "overhead") else f"stages.{name}"

    def cell(row: Mapping[str, Any]) -> str:
        return "{p50_ms:.2f} / {p90_ms:.2f} / {p99_ms:.2f}".format(**value_at(row, path))

    return Column(f"{name} ms", cell)


LAYOUT = Layout(
    tables(
        {
            "milliseconds per batch, p50 / p90 / p99": (
                Column("model", "model"),
                *SETTINGS_COLUMNS,
                Column("clients", "concurrency"),
                *(_percentiles(name) for name in ("network", "total", "overhead")),
                Column("GPU clock ms", "network_device.p50_ms", ".2f"),
                Column("pictures/s", "fps", ".1f"),
                QUIET,
            ),
            "beside the network, milliseconds per batch, p50 / p90 / p99": (
                Column("model", "model"),
                *SETTINGS_COLUMNS,
                Column("clients", "concurrency"),
                *(_percentiles(name) for name in ("input", "decode", "preprocess", "unmap")),
            ),
            "start, in a fresh process": (
                Column("model", "model"),
                *SETTINGS_COLUMNS,
                Column("import ms", "cold_start.import_ms", ".0f"),
                Column("open ms", "cold_start.open_ms", ".0f"),
                Column("first batch ms", "cold_start.first_ms", ".1f"),
                Column("total ms", "cold_start.total_ms", ".0f"),
                Column("further batches ms", lambda row: ", ".join(f"{ms:.1f}" for ms in row["warmup_ms"][:5])),
            ),
            "the machine meanwhile": (
                Column("model", "model"),
                Column("batch", "batch"),
                Column("clients", "concurrency"),
                QUIET,
                Column("stolen", "conditions.stolen_share", ".1%"),
                Column("others", "conditions.others_share", ".1%"),
                Column("throttled ms", "conditions.throttled_ms", ".0f"),
                Column("thermal events", "conditions.thermal_events"),
                Column(
                    "MHz", lambda row: " to ".join("-" if m is None else f"{m:.0f}" for m in row["conditions"]["mhz"])
                ),
            ),
        }
    ),
    plots=(
        Bars("whole way, median", ("model", "batch", "concurrency"), "stages.total.p50_ms", "ms per batch"),
        Bars("JPEG bytes to batch, median", ("model", "batch", "concurrency"), "input.p50_ms", "ms per batch"),
        Bars("throughput", ("model", "batch", "concurrency"), "fps", "pictures/s"),
    ),
)


def rows_of(results: Sequence[BenchResult], labels: Sequence[str]) -> list[Row]:
    """Results of ``bench_models`` as rows: with the file's name instead of its path, and the noise in words."""
    pairs = zip(results, labels, strict=True)
    return [{**r.to_dict(), "model": label, "noise": r.conditions.noise} for r, label in pairs]


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--model", required=True, action="append", metavar="FILE[@NAME=VALUE,...]", help="repeatable")
    parser.add_argument("--batch", default="1", help="default %(default)s")
    parser.add_argument("--concurrency", default="1", help="clients at once (default %(default)s)")
    parser.add_argument("--source", help="pictures; default: a generated JPEG of 1280x720, from memory")
    parser.add_argument("--seconds", type=float, default=10.0, help="per row (default %(default)s)")
    parser.add_argument("--iters", type=int, help="or batches per row and client")
    parser.add_argument("--repeat", type=int, default=1, help="of the whole list (default %(default)s)")
    parser.add_argument("--limit-input-ms", type=float, help="JPEG bytes to batch, median")
    parser.add_argument("--limit-overhead-ms", type=float, help="everything but the network, median")
    add_settings(parser)
    options = parser.parse_args(arguments)
    length = {"source": options.source, "iterations": options.iters, "seconds": options.seconds}
    work = [
        (artifact, artifact.plan(batch, concurrency=concurrency, **length))
        for _ in range(options.repeat)
        for artifact in (parse_artifact(text, options) for text in options.model)
        for batch in parse_counts(options.batch, "--batch")
        for concurrency in parse_counts(options.concurrency, "--concurrency")
    ]
    plans = [plan for _, plan in work]
    rows = rows_of(bench_models(plans).results, [artifact.label for artifact, _ in work])
    limits = {"input": options.limit_input_ms, "overhead": options.limit_overhead_ms}
    about = {"timed": {**explain(plans[0]), "pictures": _pictures(options.source)}, "limits_ms": limits}
    publish(
        Report.here(
            "latency", "milliseconds per batch, by stage", rows, public_command("latency.py", arguments), about
        ),
        LAYOUT,
        options,
    )
    single = [row for row in rows if row["batch"] == row["concurrency"] == 1]
    return int(
        any(limit is not None and row[name]["p50_ms"] > limit for name, limit in limits.items() for row in single)
    )


def _pictures(source: str | None) -> str:
    return "one generated JPEG of 1280x720 pixels, from memory" if source is None else Path(source).name


if __name__ == "__main__":
    sys.exit(run("latency.py", main))

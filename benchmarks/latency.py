"""Latency by stage: percentiles, batches and clients, cold start, warm-up, clocks; the GPU by both clocks.

    python benchmarks/latency.py --model FILE[@threads=2] --batch 1,4 --concurrency 1,2 --out FILE.json

Each model, batch and number of clients is measured by ``aweigh bench`` in a process of its own. ``--repeat`` does the
whole list again, so that a noise of minutes shows as a difference between rows. ``--limit-input-ms`` and
``--limit-overhead-ms`` set the exit code: medians of one client at batch 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from artifact import add_settings, parse_artifact
from report import Report, Row
from script import make_parser, public_command, publish, run

from aweigh.runtime.bench.plan import explain
from aweigh.runtime.bench.result import BenchResult
from aweigh.runtime.bench.run import bench_models
from aweigh.runtime.cli.numbers import parse_counts


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

"""Memory of a model: of the process and of the device, weights and activations apart.

    python benchmarks/memory.py --model FILE --batch 1,8 --limit-peak-mib 400 --out FILE.json

One process per model and batch, by ``aweigh bench``. ``network`` is what opening the file adds to a process that has
imported its libraries: weights and what the library makes of them. ``activations`` is what running adds at its peak:
tensors between the layers, and images. MiB are 2^20 bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from aweigh.runtime.bench.result import BenchResult
from aweigh.runtime.bench.run import bench_models
from aweigh.runtime.cli.numbers import parse_counts
from support.artifact import add_settings, parse_artifact
from support.reports.grid import Column
from support.reports.layout import SETTINGS_COLUMNS, Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run

_MIB_PER_MB = 1e6 / 2**20


LAYOUT = Layout(
    tables(
        {
            "MiB of a process": (
                Column("model", "model"),
                *SETTINGS_COLUMNS,
                Column("file", "file_mib", ".1f"),
                *(
                    Column(name, f"process_mib.{name}", ".0f")
                    for name in ("libraries", "network", "activations", "end", "peak")
                ),
            ),
            "bytes of the device": (
                Column("model", "model"),
                *(Column(name, f"device_bytes.{name}") for name in ("weights", "scratch", "buffers", "pinned_host")),
            ),
        }
    ),
    plots=(Bars("peak resident memory", ("model", "batch"), "process_mib.peak", "MiB"),),
)


def row_of(measured: BenchResult, label: str, file_bytes: int) -> Row:
    """Resident memory by what it is for, MiB; None where the system does not tell."""
    result = measured.to_dict()
    phases = ("start", "open", "end", "peak")
    at = {phase: _mib(result[f"memory_{phase}_mb"]) for phase in phases}
    return {
        "model": label,
        **{
            key: result[key] for key in ("sha256", "batch", "height", "width", "precision", "post", "device", "threads")
        },
        "iterations": result["iterations"],
        "file_mib": file_bytes / 2**20,
        "process_mib": {
            "libraries": at["start"],
            "network": _minus(at["open"], at["start"]),
            "activations": _minus(at["peak"], at["open"]),
            "end": at["end"],
            "peak": at["peak"],
        },
        "device_bytes": result["device_memory"],
        "gpu": result["conditions"]["gpu"],
    }


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--model", required=True, action="append", metavar="FILE[@NAME=VALUE,...]", help="repeatable")
    parser.add_argument("--batch", default="1", help="default %(default)s")
    parser.add_argument("--source", help="pictures; default: a generated JPEG of 1280x720, from memory")
    parser.add_argument("--iters", type=int, default=30, help="batches per row (default %(default)s)")
    parser.add_argument("--limit-peak-mib", type=float, help="exit code 1 where a peak is above")
    add_settings(parser)
    options = parser.parse_args(arguments)
    work = [
        (artifact, batch)
        for artifact in (parse_artifact(text, options) for text in options.model)
        for batch in parse_counts(options.batch, "--batch")
    ]
    results = bench_models(
        [a.plan(batch, source=options.source, iterations=options.iters) for a, batch in work]
    ).results
    rows = [row_of(r, a.label, a.path.stat().st_size) for r, (a, _) in zip(results, work, strict=True)]
    limit = options.limit_peak_mib
    what = "resident memory of a process that runs one model, MiB"
    publish(
        Report.here("memory", what, rows, public_command("memory.py", arguments), {"limit_peak_mib": limit}),
        LAYOUT,
        options,
    )
    peaks = [row["process_mib"]["peak"] for row in rows]
    return int(limit is not None and any(peak is None or peak > limit for peak in peaks))


def _mib(megabytes: float | None) -> float | None:
    return None if megabytes is None else megabytes * _MIB_PER_MB


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


if __name__ == "__main__":
    sys.exit(run("memory.py", main))

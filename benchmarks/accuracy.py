"""Average precision of the very files whose speed was measured.

    python benchmarks/accuracy.py --model FILE --data DATA --split test --timed benchmarks/results/latency.json ...

Evaluated by ``aweigh val``'s own code, in the runtime that was timed. ``--timed`` reports must hold the file's sha256,
otherwise the check fails: a speed and one of another file do not belong in one table.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aweigh.runtime.errors import CheckFailed
from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split
from aweigh.train.evaluation.coco import SUMMARY
from aweigh.train.evaluation.run import evaluate_network
from support.artifact import Artifact, add_settings, parse_artifact
from support.reports.grid import Column
from support.reports.layout import Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row, read
from support.reports.script import make_parser, public_command, publish, run

LAYOUT = Layout(
    tables(
        {
            "average precision of the file": (
                Column("model", "model"),
                Column("sha256", lambda row: row["sha256"][:12]),
                Column("precision", "precision"),
                Column("split", "split"),
                Column("pictures", "images"),
                *(Column(name, name, ".4f") for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")),
                Column("timed in", lambda row: ", ".join(row["timed"]) or "-"),
            )
        }
    ),
    plots=(Bars("AP", ("model", "precision"), "AP", "AP"),),
)


def timed_in(reports: Sequence[tuple[str, Report]], sha256: str) -> dict[str, Any]:
    """Speeds of this file in each report. Raises CheckFailed where one has none."""
    found: dict[str, Any] = {}
    for name, report in reports:
        rows = [row for row in report.rows if sha256 in (row.get("sha256"), *_both(row))]
        if not rows:
            raise CheckFailed(f"{name}: has no row of the file with sha256 {sha256}; time and evaluate the same file")
        found[name] = [
            {key: row[key] for key in ("model", "batch", "concurrency", "fps", "pictures_per_s", "ratio") if key in row}
            | ({"p50_ms": row["stages"]["total"]["p50_ms"]} if "stages" in row else {})
            for row in rows
        ]
    return found


def _both(row: Row) -> tuple[Any, ...]:
    """The files of a comparison."""
    return tuple(row[side].get("sha256") for side in ("a", "b") if isinstance(row.get(side), dict))


def measure(artifact: Artifact, split: Split, batch: int, reports: Sequence[tuple[str, Report]]) -> Row:
    with artifact.open() as detector:
        about = artifact.about(detector)
        timed = timed_in(reports, about["sha256"])
        metrics = evaluate_network(detector.backend, split, batch=batch, note=artifact.path.name)
    per_class = {entry.name: entry["AP"] for entry in metrics.per_class}
    figures = {name: metrics[name] for name in SUMMARY}
    return {
        **about,
        "split": split.name,
        "images": metrics.images,
        **figures,
        "per_class": per_class,
        "timed": timed,
    }


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--model", required=True, action="append", metavar="FILE[@NAME=VALUE,...]", help="repeatable")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="test", help="default %(default)s")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--timed", type=Path, action="append", default=[], metavar="FILE.json", help="repeatable")
    add_settings(parser)
    options = parser.parse_args(arguments)
    reports = [(path.name, read(path)) for path in options.timed]
    split = load_split(options.data, options.split)
    rows = [measure(parse_artifact(text, options), split, options.batch, reports) for text in options.model]
    command = public_command("accuracy.py", arguments, {options.data: "DATA"})
    about = {"digest": split.digest()}
    publish(
        Report.here("accuracy", f"average precision of exported files on {split.name}", rows, command, about),
        LAYOUT,
        options,
    )
    return 0


if __name__ == "__main__":
    sys.exit(run("accuracy.py", main))

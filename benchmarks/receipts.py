"""False alarms and misses of the receipt: honest files, and files with a fault planted in them.

    python benchmarks/receipts.py --data BCCD,generated --work DIR --out benchmarks/results/receipts.json

Four nano models a data set, each with five draws of the images that a receipt compares and that INT8 is calibrated on:
20 draws of honest files in FP32, FP16 and INT8, and of files with each of ten faults. An honest file that fails is a
false alarm, a planted one that passes is a miss. Models, files and finished rows are kept in --work, where a run that
was stopped goes on. It fails for a miss, for a false alarm in FP32 or FP16, and for more than one of 20 in INT8.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aweigh.runtime.errors import BadInput
from support.receipts.draws import HONEST, PRECISIONS, KeptTrained, Log, cases, measure
from support.receipts.models import GENERATED, METHODS, Recipe, models
from support.receipts.planted import FAULTS
from support.reports.grid import Column, Grid, make_grid
from support.reports.layout import Layout
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run

_ALLOWED_SHARE = {"int8": 1 / 20}  # of false alarms; none in other precisions


def outcomes(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Per data set and fault: of how many draws in each precision the receipt failed, and what caught them."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["data"], row["fault"]), []).append(row)
    found: list[dict[str, Any]] = []
    for (data, fault), group in groups.items():
        counted = {}
        for precision in PRECISIONS:
            own = [row for row in group if row["precision"] == precision]
            failed = [row for row in own if row["verdict"] != "passed"]
            counted[str(precision)] = f"{len(failed)} of {len(own)}" if own else "-"
        checks = Counter(name.split(",")[0] for row in group for name in row["failed"])
        found.append({"data": data, "fault": fault, "caught_by": checks} | counted)
    return found


def grids(report: Report) -> list[Grid]:
    columns = [
        Column("data", "data"),
        Column("planted", "fault"),
        *(Column(f"failed in {precision}", precision) for precision in PRECISIONS),
        Column("checks that failed", lambda row: ", ".join(name for name, _ in row["caught_by"].most_common())),
    ]
    return [make_grid("receipts that failed; a file without a fault should pass", columns, outcomes(report.rows))]


LAYOUT = Layout(grids, plots=())


def wrong(rows: Sequence[Row]) -> list[str]:
    """What the receipts must not do: misses, and false alarms beyond those allowed."""
    found = [
        "miss: {fault} in {precision}, {data} {method}, draw {draw}".format_map(row)
        for row in rows
        if row["fault"] != HONEST and row["verdict"] == "passed"
    ]
    honest: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["fault"] == HONEST:
            honest.setdefault((row["data"], row["precision"]), []).append(row)
    for (_, precision), group in honest.items():
        alarms = [row for row in group if row["verdict"] != "passed"]
        if len(alarms) > _ALLOWED_SHARE.get(precision, 0) * len(group):
            found += [f"false alarm: {_words(row)}" for row in alarms]
    return found


def _words(row: Mapping[str, Any]) -> str:
    place = "{precision}, {data} {method}, draw {draw}".format_map(row)
    return f"{place}: {', '.join(row['failed'])}"


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--data", default=GENERATED, metavar="DATA,DATA", help="default %(default)s, which is made")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="models, files and finished rows")
    parser.add_argument("--methods", default=",".join(METHODS), metavar="NAME,NAME", help="default %(default)s")
    parser.add_argument("--draws", type=int, default=5, metavar="N", help="of each model (default %(default)s)")
    parser.add_argument("--faults", default=",".join(FAULTS), metavar="NAME,NAME", help="default: all")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), metavar="NAME,NAME", help="default %(default)s")
    parser.add_argument("--imgsz", default="128x160", help="default %(default)s")
    parser.add_argument("--iterations", type=int, default=300, metavar="N", help="default %(default)s")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the training (default %(default)s)")
    options = parser.parse_args(arguments)
    faults = [name for name in options.faults.split(",") if name]
    if unknown := [name for name in faults if name not in FAULTS]:
        raise BadInput(f"--faults {unknown[0]!r}: expected some of {', '.join(FAULTS)}")
    precisions = [name for name in PRECISIONS if name in options.precisions.split(",")]
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    recipe = Recipe(options.imgsz, options.iterations, options.threads)
    log = Log(options.work / "rows.jsonl")
    chosen = [
        model
        for data in options.data.split(",")
        for model in models(data, options.work, tuple(options.methods.split(",")), recipe)
    ]
    trained = [KeptTrained(model) for model in chosen]
    for case in cases(precisions, faults):
        for model, reference in zip(chosen, trained, strict=True):
            measure(model, case, options.draws, log, reference)
    rows = [row for row in log.rows if row["checkpoint"] in {model.checkpoint.sha256 for model in chosen}]
    what = "verdicts of receipts on honest files and on files with a fault planted in them"
    about = {"imgsz": recipe.imgsz, "iterations": recipe.iterations, "draws": options.draws, "wrong": wrong(rows)}
    shown = {data: Path(data).name for data in options.data.split(",")}
    publish(
        Report.here("receipts", what, rows, public_command("receipts.py", arguments, shown), about), LAYOUT, options
    )
    for line in wrong(rows):
        print(line, file=sys.stderr)
    return 1 if wrong(rows) else 0


if __name__ == "__main__":
    sys.exit(run("receipts.py", main))

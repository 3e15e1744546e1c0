"""False alarms and misses of the receipt: honest files, and files with a fault planted in them.

    python benchmarks/receipts.py --data BCCD,generated --work DIR --out benchmarks/results/receipts.json
    python benchmarks/receipts.py --runs RUN,RUN --precisions fp16 --work DIR --out REPORT

Four nano models a data set, each with five draws of the images that a receipt compares and that INT8 is calibrated on:
20 draws of honest files in FP32, FP16 and INT8, and of files with each of ten faults. With --runs the models are those
of finished runs. An honest file that fails is a false alarm, a planted one that passes is a miss. Models, files and
finished rows are kept in --work, where a run that was stopped goes on. It fails for a miss, for a false alarm in FP32
or FP16, and for more than one of 20 in INT8.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aweigh.runtime.agreement.tolerances import TOLERANCES
from aweigh.runtime.errors import BadInput
from support.receipts.draws import HONEST, PRECISIONS, KeptTrained, Log, cases, measure
from support.receipts.models import GENERATED, METHODS, Recipe, models, of_runs
from support.receipts.planted import FAULTS
from support.reports.grid import Column, Grid, make_grid
from support.reports.layout import Layout
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run

_ALLOWED_SHARE = {"int8": 1 / 20}  # of false alarms; none in other precisions


def summed(rows: Sequence[Row]) -> list[Row]:
    """One row per file: of how many draws its receipt failed, what failed, and the figures where it should not have."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in _FILE), []).append(row)
    found = []
    for key, group in groups.items():
        failed = [row for row in group if row["verdict"] != "passed"]
        counts = Counter(name for row in failed for name in _checks_of(row))
        about: Row = dict(zip(_FILE, key, strict=True))
        about |= {"draws": len(group), "failed": len(failed), "checks": dict(sorted(counts.items()))}
        if about["fault"] == HONEST:
            about["ap_difference"] = [_rounded(row["ap"] and row["ap"]["difference"]["AP"]) for row in group]
            about["alarms"] = [
                {"draw": row["draw"]} | check for row in failed for check in row["checks"] if not check["passed"]
            ]
        found.append(about)
    return found


def _checks_of(row: Row) -> set[str]:
    """The names of the checks that failed, in whichever batch and size."""
    return {"refused"} if row["verdict"] == "refused" else {name.split(",")[0] for name in row["failed"]}


_FILE = ("data", "method", "precision", "fault")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def ap_rules(rows: Sequence[Row]) -> list[Row]:
    """How many files fail by their loss of AP alone, by what is asked of the loss that decides.

    ``point``: above the tolerance; ``any``: that, and by the bootstrap there is a loss; ``beyond``: that, and by the
    bootstrap it is above the tolerance, which is the receipt's rule.
    """
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        if row.get("ap") is None:
            continue
        allowed = TOLERANCES[row["precision"]].ap
        count = counts.setdefault((row["precision"], "honest" if row["fault"] == HONEST else "planted"), Counter())
        count["files"] += 1
        lost = _lost(row["ap"], allowed)
        highest = min((row["ap"]["interval"][name][1] for name in lost), default=math.inf)
        count["point"] += bool(lost)
        count["any"] += highest < 0
        count["beyond"] += highest < -allowed
    return [{"precision": precision, "files_are": what, **count} for (precision, what), count in counts.items()]


def _lost(ap: Mapping[str, Any], allowed: float) -> list[str]:
    """The metrics that fell by more than the tolerance at every IoU threshold they were taken at."""
    taken = [ap["difference"], *ap["difference_beside"].values()]
    return [name for name in ap["interval"] if all((each[name] or 0.0) < -allowed for each in taken)]


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
            failed, draws = (sum(row[name] for row in own) for name in ("failed", "draws"))
            counted[str(precision)] = f"{failed} of {draws}" if own else "-"
        checks: Counter[str] = Counter()
        for row in group:
            checks.update(row["checks"])
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
    parser.add_argument("--runs", metavar="RUN,RUN", help="folders of finished runs, instead of models trained here")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="models, files and finished rows")
    parser.add_argument("--methods", default=",".join(METHODS), metavar="NAME,NAME", help="default %(default)s")
    parser.add_argument("--draws", type=int, default=5, metavar="N", help="of each model (default %(default)s)")
    parser.add_argument("--fault-draws", type=int, metavar="N", help="of files with a fault (default: as --draws)")
    parser.add_argument("--faults", default=",".join(FAULTS), metavar="NAME,NAME", help="default: all")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), metavar="NAME,NAME", help="default %(default)s")
    parser.add_argument("--imgsz", default="128x160", help="default %(default)s")
    parser.add_argument("--iterations", type=int, default=400, metavar="N", help="default %(default)s")
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
    if options.runs:
        folders = [Path(folder) for folder in options.runs.split(",")]
        chosen = of_runs(folders, options.work)
        shown = {str(folder): str(Path(folder.parent.name, folder.name)) for folder in folders}
        recipe_facts = {}
    else:
        chosen = [
            model
            for data in options.data.split(",")
            for model in models(data, options.work, tuple(options.methods.split(",")), recipe)
        ]
        shown = {data: Path(data).name for data in options.data.split(",")}
        recipe_facts = {"imgsz": recipe.imgsz, "iterations": recipe.iterations}
    trained = [KeptTrained(model) for model in chosen]
    draws = {True: options.draws, False: options.fault_draws or options.draws}
    for draw in range(max(draws.values())):  # outermost: what is stopped early has as many draws of every fault
        for case in cases(precisions, faults):
            if draw < draws[case.fault == HONEST]:
                for model, reference in zip(chosen, trained, strict=True):
                    measure(model, case, draw, log, reference)
    known = {model.checkpoint.sha256 for model in chosen}
    rows = [row for row in log.rows if row["checkpoint"] in known and row["draw"] < draws[row["fault"] == HONEST]]
    what = "verdicts of receipts on honest files and on files with a fault planted in them"
    about: dict[str, Any] = {**recipe_facts, "draws": options.draws, "wrong": wrong(rows), "fault_draws": draws[False]}
    about |= {"models": [model.facts() for model in chosen], "ap_rules": ap_rules(rows)}
    publish(
        Report.here("receipts", what, summed(rows), public_command("receipts.py", arguments, shown), about),
        LAYOUT,
        options,
    )
    for line in wrong(rows):
        print(line, file=sys.stderr)
    return 1 if wrong(rows) else 0


if __name__ == "__main__":
    sys.exit(run("receipts.py", main))

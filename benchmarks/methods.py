"""Train, export and evaluate any set of methods under one recipe, with the same seeds and the same length.

    python benchmarks/methods.py --data DIR --methods fcos,dw,o2f,autoassign,paa,ala,ala-one-to-one --model r18 \\
        --epochs 30 --seeds 0,1 --project RUNS --out benchmarks/results/methods_bccd.json

Every step is the command a user would type. Model selection sees the validation split alone; the test split is read
once per run and post-processing. Where a method's own post-processing is not NMS, the same weights are exported with
NMS as well. Latency is measured at the end, all files in one run of ``aweigh bench``.

The work can be stopped at any time and spread over sessions and machines: rows that --out holds are kept, finished
runs of --project are evaluated, unfinished ones resumed, and --merge takes in rows made elsewhere.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256
from aweigh.train.config import make_config, read_recipe
from aweigh.train.process.console import say
from aweigh.train.tracking.folder import RunDir
from support.methods import tables as comparison_tables
from support.methods.comparison import (
    Variant,
    common,
    key_of,
    merged,
    parse_variants,
    recipe_of,
    require_comparable,
    summarize,
)
from support.methods.report import read_report
from support.methods.run import EXPORTS, Session, artifact_of, aweigh, measured, open_session
from support.reports.layout import Layout
from support.reports.plots import Bars, draw
from support.reports.report import Report, Row
from support.reports.script import public_command, run, show

BENCH_PICTURES = 16
# Flags of `aweigh train` that are handed on: those of the recipe, and those of the machine.
_WORDS, _NUMBERS = ("model", "weights", "imgsz", "precision"), ("batch", "epochs")
RECIPE_FLAGS: dict[str, type] = {**dict.fromkeys(_WORDS, str), **dict.fromkeys(_NUMBERS, int), "minutes": float}
MACHINE_FLAGS: dict[str, type] = {"threads": int, "workers": int, "cache": str}
# These have flags of their own.
NOT_IN_RECIPE = ("data", "method", "options", "seed", "project", "name", "exist_ok")


LAYOUT = Layout(
    lambda report: comparison_tables.grids(report.about),
    plots=(Bars("test AP", ("variant", "seed"), "test.AP", "AP"),),
)

Files = dict[tuple[str, str], Path]


def files_of(session: Session, rows: Sequence[Row]) -> Files:
    """One exported file per variant and post-processing, of the lowest seed, as far as they lie here."""
    files: Files = {}
    for row in sorted(rows, key=lambda row: int(row["seed"])):
        run = RunDir(session.project / Variant(row["variant"], row["method"], row["options"]).run_name(row["seed"]))
        for kind in EXPORTS:
            path = artifact_of(run, kind)
            if kind in row and path.is_file() and file_sha256(path) == row[kind]["sha256"]:
                files.setdefault((row["variant"], kind), path)
    return files


def latency(session: Session, files: Files, seconds: float) -> dict[str, Any]:
    """Of all files, in one run of ``aweigh bench``."""
    say(f"latency of {len(files)} files")
    with tempfile.TemporaryDirectory() as folder:
        for i, record in enumerate(session.splits["val"].records[:BENCH_PICTURES]):
            (Path(folder) / f"{i:03}{record.path.suffix}").symlink_to(record.path.resolve())
        models = [word for path in files.values() for word in ("--model", str(path))]
        report = aweigh("bench", *models, "--seconds", str(seconds), "--source", folder, *session.threads)
    results: dict[str, dict[str, Any]] = {}
    for (variant, kind), result in zip(files, report["results"], strict=True):
        stages = result["stages"]
        results.setdefault(variant, {})[kind] = {
            **{f"{stage}_p50_ms": stages[stage]["p50_ms"] for stage in ("network", "total")},
            **{key: result[key] for key in ("post", "post_ms", "threads", "height", "width")},
        }
    return {
        "date": date.today().isoformat(),
        "what": f"onnxruntime, cpu, batch 1, {BENCH_PICTURES} pictures of val, {seconds:g} s per file; network: the "
        "whole graph with its post-processing; total: from the file on disk to boxes of the picture",
        "machine": report["machine"],
        "results": results,
    }


def common_recipe(session: Session) -> dict[str, Any]:
    return common(recipe_of(make_config({**session.recipe, "data": session.data})))


def save(out: Path, session: Session, command: str, new: Sequence[Row], timed: dict[str, Any] | None) -> Report:
    """Put rows into the file, beside those that are there by now, and make the summary again."""
    recipe = common_recipe(session)
    held: Report | None = None
    if out.exists():
        held = read_report(out)
        require_comparable(held.about, recipe, session.digests, str(out))
    rows = merged(held.rows if held else [], new)
    timed = timed or (held.about["latency"] if held else None)
    origin = f"backbone from {recipe['weights']}" if recipe["weights"] else "from scratch"
    about = {
        "recipe": recipe,
        "data": {
            "pictures": {name: len(split.records) for name, split in session.splits.items()},
            "digests": session.digests,
        },
        "summary": summarize(rows, timed),
        "latency": timed,
    }
    what = f"methods under one recipe: {recipe['model']}, {origin}"
    report = Report.here("methods", what, rows, command, about)
    report.write(out)
    return report


def compare(options: argparse.Namespace, command: str) -> Report | None:
    """Do what is missing of the comparison; returns the report that --out holds then, None where there is none."""
    variants = parse_variants(options.methods)
    seeds = parse_seeds(options.seeds)
    session = make_session(options)
    out: Path = options.out
    report: Report | None = None
    if out.exists():
        report = read_report(out)
        require_comparable(report.about, common_recipe(session), session.digests, str(out))
    for path in options.merge:
        other = read_report(path)
        require_comparable(other.about, common_recipe(session), session.digests, str(path))
        held = keys(report)
        more = [row for row in other.rows if key_of(row) not in held]
        say(f"{path.name}: {len(more)} of {len(other.rows)} rows are new")
        report = save(out, session, command, more, None)
    for seed in seeds:  # a budget that runs out leaves all variants with the first seeds
        for variant in variants:
            if (variant.name, seed) in keys(report) and not options.again:
                say(f"{variant.run_name(seed)}: in {out.name} already")
                continue
            report = add_run(session, variant, seed, out, command)
    if options.bench_seconds and report is not None:
        report = add_latency(session, report, out, command, options.bench_seconds, options.again)
    return report


def add_run(session: Session, variant: Variant, seed: int, out: Path, command: str) -> Report:
    """Do one run, and write its row at once."""
    row = measured(session, variant, seed)
    say(f"{variant.run_name(seed)}: AP {_ap(row['val'])} on val, {_ap(row['test'])} on test")
    return save(out, session, command, [row], None)


def add_latency(
    session: Session, report: Report, out: Path, command: str, seconds: float, again: bool = False
) -> Report:
    """Time the files where some have not been timed, all together: those timed at two times are not compared."""
    files = files_of(session, report.rows)
    before = (report.about["latency"] or {}).get("results", {})
    timed = {(name, kind) for name, kinds in before.items() for kind in kinds}
    lost = sorted(f"{name} ({kind})" for name, kind in timed - set(files))
    if lost and set(files) - timed:
        say(f"latency not measured: bring all runs together below --project; missing are {', '.join(lost)}")
    elif set(files) - timed or (again and files):
        report = save(out, session, command, [], latency(session, files, seconds))
    return report


def keys(report: Report | None) -> set[tuple[str, int]]:
    """Variant and seed of the rows that are there."""
    return {key_of(row) for row in report.rows} if report else set()


def _ap(figures: dict[str, Any]) -> str:
    return "-" if figures["AP"] is None else f"{figures['AP']:.3f}"


def parse_seeds(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(seed) for seed in text.split(",")))
    except ValueError:
        raise BadInput(f"--seeds {text!r}: expected numbers with commas between, for example 0,1") from None


def make_session(options: argparse.Namespace) -> Session:
    """Raises BadInput for a recipe or data that cannot be used; before any work is done."""
    recipe = read_recipe(options.config) if options.config else {}
    if own := sorted(set(recipe) & set(NOT_IN_RECIPE)):
        raise BadInput(
            f"--config {options.config}: {', '.join(own)}: not for all runs alike; use the flags of this script"
        )
    given = {name: getattr(options, name) for name in RECIPE_FLAGS if getattr(options, name) is not None}
    if "epochs" in given:
        recipe.pop("minutes", None)
    recipe |= given
    machine = tuple(
        word
        for name in MACHINE_FLAGS
        if getattr(options, name) is not None
        for word in (f"--{name}", str(getattr(options, name)))
    )
    where = str(options.config or "flags")
    return open_session(options.data, options.project, recipe, machine, options.threads, options.int8, where)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--data", required=True, help="folder or data.yaml with the splits train, val and test")
    parser.add_argument("--methods", required=True, help="fcos,ala-one-to-one,paa:boundary=d,...")
    parser.add_argument("--seeds", default="0,1", help="default %(default)s")
    parser.add_argument("--config", type=Path, help="YAML recipe for all runs; flags override it")
    length = parser.add_mutually_exclusive_group()
    for name, kind in {**RECIPE_FLAGS, **MACHINE_FLAGS}.items():
        group = length if name in ("epochs", "minutes") else parser
        group.add_argument(f"--{name}", type=kind, help="as of aweigh train")
    parser.add_argument("--project", type=Path, default=Path("runs/methods"), help="of the runs (default %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="JSON; rows that it holds are kept")
    parser.add_argument("--merge", type=Path, action="append", default=[], help="take in the rows of such a file")
    parser.add_argument("--again", action="store_true", help="evaluate, export and time what --out holds once more")
    parser.add_argument("--int8", action="store_true", help="export every run in INT8 too")
    parser.add_argument("--bench-seconds", type=float, default=5.0, help="per file (default %(default)s), 0 for none")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="AP of every run as bars")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    options = parser.parse_args(arguments)
    folders = {options.data: "DATA", str(options.project): "RUNS"}
    report = compare(options, public_command("methods.py", arguments, folders))
    if report is None:
        return 0
    show(report, LAYOUT, options.markdown)
    if options.plot is not None:
        draw(LAYOUT.plots, report.rows, options.plot, report.what)
    failed = [row for row in report.rows if "failed" in {row[k]["receipt"] for k in EXPORTS if k in row}]
    for row in failed:
        print(
            f"methods.py: {row['variant']}, seed {row['seed']}: a receipt FAILED, see failed in --out", file=sys.stderr
        )
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the running command is stopped, too
    sys.exit(run("methods.py", main))

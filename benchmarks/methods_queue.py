"""Run a plan of comparisons as one queue: every method on several data sets, seed after seed, one run at a time.

    python benchmarks/methods_queue.py --plan benchmarks/plans/lite0.yaml --data DATASETS --project RUNS \\
        --out benchmarks/results/methods_lite0 --until 18:30

Each data set has a report of its own, as of methods.py: ``--out`` with the name of the data set and ``.json`` behind
it, written after each run. The queue can be stopped at any time and goes on where it stopped: rows that are there are
kept, finished runs evaluated, unfinished ones resumed. The first table says which runs are there and which are missing.
Two processes can share the work, each with ``--only`` the data sets that the other leaves alone.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import methods

from aweigh.runtime.errors import BadInput
from aweigh.train.process.console import say
from support.methods import tables
from support.methods.comparison import require_comparable
from support.methods.plan import Plan, read_plan
from support.methods.report import read_report
from support.methods.run import Session, open_session
from support.reports.grid import Grid
from support.reports.report import Report
from support.reports.script import print_grids, public_command, run

PLAN = Path(__file__).parent / "plans" / "lite0.yaml"
LAYOUT = methods.LAYOUT  # its reports are those of methods.py


def out_of(options: argparse.Namespace, name: str) -> Path:
    """The report of a data set."""
    out: Path = options.out
    return out.with_name(f"{out.name}_{name}.json")


def reports_of(plan: Plan, options: argparse.Namespace) -> dict[str, Report]:
    """Those that are there, by data set."""
    paths = {name: out_of(options, name) for name in plan.data}
    return {name: read_report(path) for name, path in paths.items() if path.exists()}


def session_of(plan: Plan, options: argparse.Namespace, name: str) -> Session:
    """Of a data set. Raises BadInput where there is none, or where its report is of another recipe or of other data."""
    data = plan.data[name]
    session = open_session(
        str(data.place(name, options.data, options.project / "data")),
        options.project / name,
        {**plan.recipe, **data.recipe},
        ("--threads", str(options.threads), "--workers", str(options.workers), "--cache", "ram"),
        options.threads,
        int8=True,
        where=f"{options.plan}: {name}",
    )
    out = out_of(options, name)
    if out.exists():
        require_comparable(read_report(out).about, methods.common_recipe(session), session.digests, str(out))
    return session


def work(
    plan: Plan, options: argparse.Namespace, only: Collection[str], command: str, in_time: Callable[[], bool]
) -> None:
    """Do what is missing of these data sets, in the order of the plan, as long as there is time to begin."""
    done = {name: methods.keys(report) for name, report in reports_of(plan, options).items()}
    sessions: dict[str, Session] = {}
    for name, variant, seed in plan.jobs:
        if name not in only or (variant.name, seed) in done.get(name, set()):
            continue
        if not in_time():
            say("no run is begun any more; the same command goes on")
            return
        if name not in sessions:
            sessions[name] = session_of(plan, options, name)
        say(f"{datetime.now():%H:%M} {name}: {variant.run_name(seed)}")
        methods.add_run(sessions[name], variant, seed, out_of(options, name), command)


def missing(plan: Plan, reports: dict[str, Report]) -> Grid:
    """Which seeds of each variant are there, and which are not."""
    rows = []
    for name, data in plan.data.items():
        there = methods.keys(reports.get(name))
        cells = []
        for variant in plan.variants:
            held: list[str] = []
            absent: list[str] = []
            for seed in plan.seeds(name):
                (held if (variant.name, seed) in there else absent).append(str(seed))
            words = [", ".join(held), f"missing {', '.join(absent)}" if absent else ""]
            cells.append("; ".join(filter(None, words)))
        rows.append((name if data.ranked else f"{name} (not ranked)", *cells))
    total = sum((variant.name, seed) in methods.keys(reports.get(name)) for name, variant, seed in plan.jobs)
    title = f"{plan.what}: {total} of {len(plan.jobs)} runs are there; seeds of each"
    return Grid(title, ("data", *(variant.name for variant in plan.variants)), tuple(rows))


def grids(plan: Plan, reports: dict[str, Report]) -> list[Grid]:
    """What is missing, then the tables of each data set."""
    of_data = [
        replace(grid, title=f"{name}: {grid.title}")
        for name, report in reports.items()
        for grid in tables.grids(report.about)
    ]
    return [missing(plan, reports), *of_data]


def until(text: str | None) -> Callable[[], bool]:
    """Whether it is before a time of this day (``18:30``); always where none is given."""
    if text is None:
        return lambda: True
    try:
        end = datetime.combine(datetime.now().date(), datetime.strptime(text, "%H:%M").time())
    except ValueError:
        raise BadInput(f"--until {text}: expected a time of today, such as 18:30") from None
    return lambda: datetime.now() < end


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--plan", type=Path, default=PLAN, help="YAML (default: plans/lite0.yaml)")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the data sets of the plan")
    parser.add_argument("--project", type=Path, default=Path("runs/methods_queue"), help="of the runs (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="beginning of the names of the reports")
    parser.add_argument("--only", metavar="NAMES", help="data sets of the plan, with commas (default: all)")
    parser.add_argument("--until", help="time of today after which no run is begun, such as 18:30")
    parser.add_argument("--show", action="store_true", help="only print the tables")
    parser.add_argument("--bench-seconds", type=float, default=0.0, help="time every file for so long, at the end")
    parser.add_argument("--threads", type=int, default=1, help="of training and of exported files (%(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes that load images (%(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    options = parser.parse_args(arguments)
    plan = read_plan(options.plan)
    only = options.only.split(",") if options.only else list(plan.data)
    if unknown := sorted(set(only) - set(plan.data)):
        raise BadInput(f"--only {', '.join(unknown)}: expected some of {', '.join(plan.data)}")
    command = public_command(
        "methods_queue.py", arguments, {str(options.data): "DATASETS", str(options.project): "RUNS"}
    )
    if not options.show:
        work(plan, options, only, command, until(options.until))
    if options.bench_seconds:
        for name, report in reports_of(plan, options).items():
            session = session_of(plan, options, name)
            methods.add_latency(session, report, out_of(options, name), command, options.bench_seconds)
    print_grids(grids(plan, reports_of(plan, options)), options.markdown)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the running command is stopped, too
    sys.exit(run("methods_queue.py", main))

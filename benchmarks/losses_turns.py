"""Time of every method's loss in two checkouts of this repository, in turns: what a change costs, or brings.

    python benchmarks/losses_turns.py --old ../before --pairs 8

Each checkout has a virtual environment of its own in .venv (`make .venv/.installed`). One process of each, one thread;
a call here, a call there, forward and backward, on the inputs of losses.py; then two new processes: where in memory a
process lies makes up to a quarter. Freed memory stays with the processes (keep_memory in support/loss_process.py).
What counts is the median ratio of such a pair, new over old.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from aweigh.runtime.errors import CannotRun
from aweigh.train.methods import METHODS
from aweigh.train.process.console import track
from support.checkouts import HERE, commit_of, other_checkout
from support.paired import in_turns, paired_ratio
from support.reports.grid import Column, interval
from support.reports.layout import Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run

PROCESS = Path(__file__).parent / "support" / "loss_process.py"

LAYOUT = Layout(
    tables(
        {
            "the loss now and before": (
                Column("method", "method"),
                Column("objects per picture", "truths_per_image"),
                Column("before ms", "old_ms", ".1f"),
                Column("now ms", "new_ms", ".1f"),
                Column("now over before", interval("ratio")),
            )
        }
    ),
    plots=(Bars("time now over before", ("method", "truths_per_image"), "ratio", "ratio", 1.0),),
)


class LossProcess:
    """The loss of one checkout."""

    def __init__(self, checkout: Path, method: str, truths: int) -> None:
        python = checkout / ".venv" / "bin" / "python"
        command = [str(python), str(PROCESS), str(checkout), method, str(truths)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout
        )

    def __enter__(self) -> Self:
        self.answer()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()

    def answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise CannotRun(f"a loss ended: {self._process.args!r}")
        return line.strip()

    def once(self) -> None:
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        self.answer()


def measure(old: Path, method: str, truths: int, pairs: int, rounds: int) -> Row:
    """``pairs`` pairs of processes, each with ``rounds`` calls of both."""
    old_ms, new_ms = [], []
    for _ in range(pairs):
        with LossProcess(old, method, truths) as before, LossProcess(HERE, method, truths) as now:
            times_ms = in_turns({"new": now.once, "old": before.once}, rounds)
        old_ms.append(statistics.median(times_ms["old"]))
        new_ms.append(statistics.median(times_ms["new"]))
    return {
        "method": method,
        "truths_per_image": truths,
        "old_ms": statistics.median(old_ms),
        "new_ms": statistics.median(new_ms),
        "ratio": paired_ratio(new_ms, old_ms).to_dict(),
    }


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--old", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--truths", default="12,100,300")
    parser.add_argument("--pairs", type=int, default=8, help="of processes (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="of each pair (default %(default)s)")
    options = parser.parse_args(arguments)
    old = other_checkout(options.old)
    cases = [(name, int(count)) for name in options.methods.split(",") for count in options.truths.split(",")]
    rows = [measure(old, *case, options.pairs, options.rounds) for case in track(cases, "losses", len(cases))]
    what = f"loss forward + backward, one thread, now and in commit {commit_of(old)}, in turns"
    publish(Report.here("losses_turns", what, rows, public_command("losses_turns.py", arguments)), LAYOUT, options)
    return 0


if __name__ == "__main__":
    sys.exit(run("losses_turns.py", main))

"""Latency by stage and memory of exported files: one process per model and batch, one after the other."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from aweigh.runtime.bench.plan import BenchPlan, explain
from aweigh.runtime.bench.result import BenchReport, BenchResult
from aweigh.runtime.errors import AweighError, BadInput, CannotRun, CheckFailed
from aweigh.runtime.machine.facts import describe
from aweigh.runtime.values import build


def bench_models(
    plans: Sequence[BenchPlan], on_result: Callable[[BenchResult], None] = lambda result: None
) -> BenchReport:
    """Measure each plan in a fresh process, in order.

    A process of its own gives each plan a cold start and a peak of memory that earlier plans do not raise.

    Args:
        plans: at least one; all are checked before the first is measured.
        on_result: called after each measurement.

    Raises:
        BadInput: no plan, a file that cannot be opened, or one that does not take the batch.
        CannotRun: the device is not available, or the process was killed.
        CheckFailed: the file's self-test failed.

    Example:
        >>> report = bench_models([BenchPlan(str(model_path), batch=1, iterations=3)])
        >>> [result] = report.results
        >>> result.batch, result.iterations, 0 < result.stages.network.p50_ms < result.stages.total.p99_ms
        (1, 3, True)
    """
    if not plans:
        raise BadInput("nothing to measure: give at least one plan")
    for plan in plans:
        plan.check()
    results = []
    for plan in plans:
        results.append(_in_a_process(plan))
        on_result(results[-1])
    return BenchReport(explain(plans[0]), describe(), tuple(results))


def _in_a_process(plan: BenchPlan) -> BenchResult:
    command = [sys.executable, "-P", "-m", "aweigh.runtime.bench.worker", json.dumps(asdict(plan))]
    command.append(str(time.monotonic()))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return build(BenchResult, json.loads(done.stdout), "result of the measuring process")
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    for kind in (CheckFailed, BadInput, CannotRun):
        if done.returncode == kind.exit_code and lines[-1].startswith("aweigh: "):
            raise kind(lines[-1].removeprefix("aweigh: "))
    if done.returncode < 0:
        raise CannotRun(f"{plan.model}, batch {plan.batch}: killed by signal {-done.returncode} (out of memory?)")
    raise AweighError(f"{plan.model}, batch {plan.batch}: the measuring process failed:\n{done.stderr}")

"""The runtime's verbs: predict, compare, inspect, doctor, bench. Each has a file of its own here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aweigh.runtime.cli.bench import add_bench, run_bench
from aweigh.runtime.cli.compare import add_compare, run_compare
from aweigh.runtime.cli.doctor import add_doctor, run_doctor
from aweigh.runtime.cli.inspect import add_inspect, run_inspect
from aweigh.runtime.cli.predict import add_predict, run_predict

if TYPE_CHECKING:
    from aweigh.runtime.cli.main import Verbs


def register(verbs: Verbs) -> None:
    """Entry point ``aweigh.verbs``. Nothing heavy is imported before a verb runs."""
    add_predict(verbs.add("predict", run_predict))
    add_compare(verbs.add("compare", run_compare))
    add_inspect(verbs.add("inspect", run_inspect))
    add_doctor(verbs.add("doctor", run_doctor))
    add_bench(verbs.add("bench", run_bench))

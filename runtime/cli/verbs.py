"""The runtime's verbs: predict, label, compare, inspect, card, push, pull, doctor, bench."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aweigh.runtime.cli.bench import add_bench, run_bench
from aweigh.runtime.cli.compare import add_compare, run_compare
from aweigh.runtime.cli.doctor import add_doctor, run_doctor
from aweigh.runtime.cli.hub.transfer import add_pull, add_push, run_pull, run_push
from aweigh.runtime.cli.inspect import add_card, add_inspect, run_card, run_inspect
from aweigh.runtime.cli.labelling.label import add_label, run_label
from aweigh.runtime.cli.predict import add_predict, run_predict

if TYPE_CHECKING:
    from aweigh.runtime.cli.main import Verbs


def register(verbs: Verbs) -> None:
    """Entry point ``aweigh.verbs``. Nothing heavy is imported before a verb runs."""
    add_predict(verbs.add("predict", run_predict))
    add_label(verbs.add("label", run_label))
    add_compare(verbs.add("compare", run_compare))
    add_inspect(verbs.add("inspect", run_inspect))
    add_card(verbs.add("card", run_card))
    add_push(verbs.add("push", run_push))
    add_pull(verbs.add("pull", run_pull))
    add_doctor(verbs.add("doctor", run_doctor))
    add_bench(verbs.add("bench", run_bench))

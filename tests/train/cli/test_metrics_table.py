"""The table of metrics on the terminal."""

from __future__ import annotations

from aweigh.train.cli.metrics_table import metrics_table
from aweigh.train.evaluation.metrics import Metrics
from aweigh.train.evaluation.sets import METRIC_SETS


def test_a_dash_is_explained_where_there_is_one() -> None:
    names = METRIC_SETS["coco"].shown
    full = Metrics(dict.fromkeys(names, 0.5), (), 8)
    assert metrics_table(full, "val").caption is None
    without_small = Metrics({**full.values, "APs": None}, (), 8)
    assert metrics_table(without_small, "val").caption == "-: no object of this size in the split"

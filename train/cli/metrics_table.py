"""Metrics as a table on the terminal."""

from __future__ import annotations

from rich.table import Table

from aweigh.train.evaluation.metrics import Metrics


def metrics_table(metrics: Metrics, title: str, kind: str = "coco") -> Table:
    """One row for the whole split and one for each class; ``kind`` is a key of METRIC_SETS."""
    from aweigh.train.evaluation.sets import METRIC_SETS

    table = Table(title=title, title_justify="left")
    table.add_column("")
    names = METRIC_SETS[kind].shown
    for name in names:
        table.add_column(name, justify="right")
    table.add_row("all", *(_number(metrics[name]) for name in names))
    for row in metrics.per_class:
        table.add_row(row.name, *(_number(row[name]) if name in row.values else "" for name in names))
    if kind == "coco" and any(metrics[name] is None for name in names):
        table.caption = "-: no object of this size in the split"
        table.caption_justify = "left"
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

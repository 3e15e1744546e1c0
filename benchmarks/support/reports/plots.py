"""Plots of a report: bars with their spread and the limit they are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from aweigh.runtime.atomic import atomic_write
from support.reports.grid import value_at


@dataclass(frozen=True)
class Bars:
    """A horizontal bar per row.

    Attributes:
        label: dotted paths whose values name the bar.
        value: dotted path to a number, or to ``{"median", "low", "high"}``.
        limit: dotted path to a number drawn as a line, or the number.
    """

    title: str
    label: tuple[str, ...]
    value: str
    unit: str
    limit: str | float | None = None


def draw(bars: Sequence[Bars], rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> bool:
    """Write a PNG with a panel per plot that any row has a value for; False where there is nothing to draw."""
    panels = [(plot, shown) for plot in bars if (shown := [r for r in rows if value_at(r, plot.value) is not None])]
    if not panels:
        return False
    heights = [0.9 + 0.32 * len(shown) for _, shown in panels]
    figure = Figure(figsize=(9, sum(heights) + 0.7), layout="constrained")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, (plot, shown) in zip(grid[:, 0], panels, strict=True):
        names = [
            " ".join(str(value_at(row, key)) for key in plot.label if value_at(row, key) is not None) for row in shown
        ]
        values = [value_at(row, plot.value) for row in shown]
        spread = [v if isinstance(v, Mapping) else {"median": v, "low": v, "high": v} for v in values]
        middle = [v["median"] for v in spread]
        whiskers = [[v["median"] - v["low"] for v in spread], [v["high"] - v["median"] for v in spread]]
        places = range(len(shown))
        axes.barh(places, middle, xerr=whiskers, color="#4c78a8", height=0.62, error_kw={"lw": 1.2, "capsize": 3})
        for place, value in zip(places, middle, strict=True):
            axes.annotate(
                f"{value:.4g}", (0, place), (4, 0), textcoords="offset points", va="center", color="white", size=8
            )
        limits = {value_at(row, plot.limit) if isinstance(plot.limit, str) else plot.limit for row in shown} - {None}
        for limit in limits:
            axes.axvline(limit, color="#e45756", linestyle="--", linewidth=1.2, label=f"{limit:g}")
        if limits:
            axes.legend(fontsize=8, frameon=False, loc="lower right")
        axes.set_yticks(places, names, fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel(plot.unit, fontsize=9)
        axes.set_title(plot.title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return True

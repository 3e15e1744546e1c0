"""results.png: losses, learning rate and average precision over the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from aweigh.runtime.atomic import atomic_write

_PRECISIONS = ("val/AP", "val/AP50", "val/AP75")


def plot_results(rows: Sequence[dict[str, str]], path: Path, title: str) -> None:
    """Draw the rows of results.csv; columns that stay empty are passed over."""
    losses = sorted({name for row in rows for name in row if name.startswith("train/loss")})
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(12, 3.6), layout="constrained")
        figure.suptitle(title, fontsize=11)
        loss_axes, precision_axes, rate_axes = figure.subplots(1, 3)
        for name in losses:
            loss_axes.plot(*_series(rows, name), label=name.removeprefix("train/"), linewidth=1.5)
        for name in _PRECISIONS:
            precision_axes.plot(*_series(rows, name), marker="o", markersize=3, label=name.removeprefix("val/"))
        rate_axes.plot(*_series(rows, "lr"), color="0.3")
        for axes, label in ((loss_axes, "training loss"), (precision_axes, "validation"), (rate_axes, "learning rate")):
            axes.set_xlabel("iteration")
            axes.set_title(label, fontsize=10)
        loss_axes.set_ylim(bottom=0)
        precision_axes.set_ylim(0, 1)
        loss_axes.legend(fontsize=8, frameon=False)
        precision_axes.legend(fontsize=8, frameon=False)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=110)


def _series(rows: Sequence[dict[str, str]], name: str) -> tuple[list[int], list[float]]:
    pairs = [(int(row["iteration"]), float(row[name])) for row in rows if row.get(name)]
    return [p[0] for p in pairs], [p[1] for p in pairs]

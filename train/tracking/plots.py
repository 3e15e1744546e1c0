"""results.png: losses, precision, learning rate and statistics of the assignment over the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aweigh.runtime.atomic import atomic_write
from aweigh.train.methods.explanation import SIZES
from aweigh.train.tracking.telemetry import PREFIX

_PRECISIONS = ("val/AP", "val/AP50", "val/AP75")
_MASSES = tuple(f"{PREFIX}mass_{size}" for size in SIZES)
_STARVED = f"{PREFIX}starved"


def plot_results(rows: Sequence[dict[str, str]], path: Path, title: str) -> None:
    """Draw the rows of results.csv; empty columns are left out."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    own = [name for name in names if name.startswith(PREFIX) and name not in (*_MASSES, _STARVED)]
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(12, 6.8), layout="constrained")
        figure.suptitle(title, fontsize=11)
        (loss, precision, rate), (mass, starved, quantities) = figure.subplots(2, 3)
        _draw(loss, rows, "training loss", sorted(n for n in names if n.startswith("train/loss")))
        _draw(precision, rows, "validation", _PRECISIONS, marker="o")
        _draw(rate, rows, "learning rate", ["lr"])
        _draw(mass, rows, "positive mass per object", _MASSES, marker="o")
        _draw(starved, rows, "share of starved objects", [_STARVED])
        _draw(quantities, rows, "the method's own", own)
        precision.set_ylim(0, 1)
        starved.set_ylim(0, 1)
        for axes in (loss, mass):
            axes.set_ylim(bottom=0)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=110)


def _draw(axes: Axes, rows: Sequence[dict[str, str]], title: str, names: Iterable[str], marker: str = "") -> None:
    drawn = [name for name in names if any(row.get(name) for row in rows)]
    for name in drawn:
        iterations, values = _series(rows, name)
        label = name.partition("/")[2].removeprefix("loss_").removeprefix("mass_")
        axes.plot(iterations, values, marker=marker, markersize=3, linewidth=1.5, label=label)
    axes.set_xlabel("iteration")
    axes.set_title(title, fontsize=10)
    if len(drawn) > 1:
        axes.legend(fontsize=8, frameon=False)
    if not drawn:
        axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes, color="0.5")


def _series(rows: Sequence[dict[str, str]], name: str) -> tuple[list[int], list[float]]:
    pairs = [(int(row["iteration"]), float(row[name])) for row in rows if row.get(name)]
    return [p[0] for p in pairs], [p[1] for p in pairs]

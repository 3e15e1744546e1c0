"""Curves and confusion of a validation: kept as numbers, drawn when a run ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import build
from aweigh.train.data.records import Split
from aweigh.train.evaluation.coco import THRESHOLDS, CocoEvaluation, best_conf
from aweigh.train.evaluation.confusion import confusion_matrix
from aweigh.train.evaluation.metrics import ClassCurve, ResultRow

CURVES_NAME = "curves.json"
_RECALLS = 101  # of COCO
_MOST_LINES = 12  # more classes are drawn in grey, without a legend
_MOST_NUMBERS = 25  # classes of a confusion matrix whose counts are written into it


@dataclass(frozen=True)
class Curves:
    """Curves and confusion of a validation.

    Attributes:
        iteration: at which the run was validated.
        iou: at which a detection counts as one of an object.
        classes: those with objects.
        thresholds: the best score threshold by category id; None where the class has none.
        names: of the rows of ``confusion``.
        confusion: counts at these thresholds, see :func:`~aweigh.train.evaluation.confusion.confusion_matrix`.
    """

    iteration: int
    iou: float
    classes: tuple[ClassCurve, ...]
    thresholds: dict[str, float | None]
    names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: object) -> Curves:
        """What ``to_dict`` gave, from JSON. Raises BadInput for anything else."""
        curves: Curves = build(cls, content, CURVES_NAME)
        size = len(curves.names) + 1
        square = len(curves.confusion) == size and all(len(row) == size for row in curves.confusion)
        lengths = all(len(c.precision) <= _RECALLS and len(c.f1) == len(THRESHOLDS) for c in curves.classes)
        if not square or not lengths or any(not 0 <= n < 2**63 for row in curves.confusion for n in row):
            raise BadInput(f"{CURVES_NAME}: not as aweigh writes it: curves or confusion of another length")
        return curves


def compute_curves(evaluation: CocoEvaluation, split: Split, results: Sequence[ResultRow], iteration: int) -> Curves:
    """Curves and confusion of an evaluation.

    Args:
        results: the detections that were evaluated.
        iteration: at which the run was validated.
    """
    thresholds = best_conf(evaluation.metrics(), split.categories)
    return Curves(
        iteration=iteration,
        iou=0.5,
        classes=evaluation.curves(),
        thresholds={str(c.id): value for c, value in zip(split.categories, thresholds, strict=True)},
        names=tuple(category.name for category in split.categories),
        confusion=tuple(map(tuple, confusion_matrix(split, results, thresholds).tolist())),
    )


def plot_curves(curves: Curves, folder: Path) -> None:
    """Draw ``PR_curve.png``, ``F1_curve.png`` and ``confusion_matrix.png`` into a folder."""
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3}):
        _save(_precision_recall(curves.classes), folder / "PR_curve.png")
        _save(_f1(curves.classes), folder / "F1_curve.png")
    _save(_confusion(curves.names, np.array(curves.confusion)), folder / "confusion_matrix.png")


def _precision_recall(classes: Sequence[ClassCurve]) -> Figure:
    figure, axes = _axes("recall", "precision", "precision and recall at IoU 0.5, validation split")
    recalls = np.linspace(0, 1, _RECALLS)
    rows = []
    for number, curve in enumerate(classes):
        precision = np.zeros(_RECALLS)
        precision[: len(curve.precision)] = curve.precision
        rows.append(precision)
        _line(axes, recalls, precision, f"{curve.name} {precision.mean():.3f}", number, len(classes))
    if rows:
        mean = np.mean(rows, axis=0)
        axes.plot(recalls, mean, color="black", linewidth=2.2, label=f"all classes {mean.mean():.3f}")
        axes.legend(title="AP50", fontsize=8, frameon=False)
    return figure


def _f1(classes: Sequence[ClassCurve]) -> Figure:
    figure, axes = _axes("score threshold", "F1", "F1 at IoU 0.5, validation split")
    rows = []
    for number, curve in enumerate(classes):
        f1 = np.array(curve.f1)
        rows.append(f1)
        best = int(f1.argmax())
        text = f"{curve.name} {f1[best]:.2f} at {THRESHOLDS[best]:.2f}"
        _line(axes, THRESHOLDS, f1, text, number, len(classes))
    if rows:
        mean = np.mean(rows, axis=0)
        best = int(mean.argmax())
        text = f"all classes {mean[best]:.2f} at {THRESHOLDS[best]:.2f}"
        axes.plot(THRESHOLDS, mean, color="black", linewidth=2.2, label=text)
        axes.legend(title="highest F1", fontsize=8, frameon=False)
    return figure


def _confusion(names: Sequence[str], counts: npt.NDArray[np.int64]) -> Figure:
    size = len(counts)
    side = min(16.0, 3.2 + 0.45 * size)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares[-1] = np.nan  # the background has no number of objects
    colours = mpl.colormaps["Blues"].with_extremes(bad="0.93")
    drawn = axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
    figure.colorbar(drawn, label="share of the row", shrink=0.7)
    axes.set_xticks(range(size), [*names, "missed"], rotation=90, fontsize=8)
    axes.set_yticks(range(size), [*names, "background"], fontsize=8)
    axes.set_xlabel("detected as")
    axes.set_ylabel("ground truth")
    axes.set_title("confusion at IoU 0.5 and the best thresholds", fontsize=10)
    if size <= _MOST_NUMBERS:
        for i, j in np.argwhere(counts > 0).tolist():
            ink = "white" if shares[i, j] > 0.6 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8, color=ink)
    return figure


def _axes(x: str, y: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes: Axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    return figure, axes


def _line(
    axes: Axes, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], text: str, number: int, lines: int
) -> None:
    if lines > _MOST_LINES:
        axes.plot(x, y, color="0.7", linewidth=0.8)
    else:
        axes.plot(x, y, color=f"C{number % 10}", linewidth=1.3, label=text)


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")

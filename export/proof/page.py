"""The receipt as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.export.proof.receipt import Drawn, Receipt
from aweigh.runtime import pages
from aweigh.runtime.agreement.match import ScoredBoxes
from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.flow.confidence import above, default_drawing
from aweigh.runtime.images.drawing import draw_boxes
from aweigh.runtime.spec import ModelSpec

_FEW_BOXES = 12  # where nothing would be drawn, the best of these
_MOST_BOXES = 30
_AGREEING = ("same", "borderline")


def write_page(receipt: Receipt, path: Path) -> None:
    """Whole or not at all. Images are inside the file."""
    with atomic_write(path) as temporary:
        temporary.write_text(render(receipt))


def render(receipt: Receipt) -> str:
    stages: dict[str, list[Any]] = {}
    for run in receipt.runs:
        for stage in run.stages:
            stages.setdefault(stage.stage, []).append(stage)
    return pages.render(
        "aweigh.export.proof",
        "receipt.html",
        {"error": _error, "ap": _ap, "signed": _signed},
        style=pages.stylesheet(),
        receipt=receipt,
        spec=receipt.spec,
        stages=stages,
        pairs=[_pair(drawn, receipt.spec) for drawn in receipt.drawn],
        megabytes=f"{receipt.bytes / 1e6:.1f}",
        failed=[check.name for check in receipt.checks if not check.passed],
    )


def _pair(drawn: Drawn, spec: ModelSpec) -> dict[str, Any]:
    sides, kinds = (drawn.trained, drawn.exported), drawn.pairing.kinds
    shown = [_shown(side, of_side, spec) for side, of_side in zip(sides, kinds, strict=True)]
    images = [
        pages.data_uri(_with_boxes(drawn.image.image_u8, side, rows, of_side, spec))
        for side, rows, of_side in zip(sides, shown, kinds, strict=True)
    ]
    match = drawn.pairing.match
    counts = {kind: getattr(match, kind) for kind in ("lost", "new", "relabelled", "moved", "rescored")}
    return {
        "name": drawn.image.name,
        "differing": ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "no difference",
        "trained": images[0],
        "exported": images[1],
        "counts": tuple(len(side.scores) for side in sides),
        "shown": tuple(len(rows) for rows in shown),
    }


def _shown(detections: ScoredBoxes, kinds: Sequence[str], spec: ModelSpec) -> npt.NDArray[np.intp]:
    """Rows of the sorted detections that are drawn: those that differ, then those that predict draws; where there are
    none of either, the best.
    """
    differs = np.array([kind not in _AGREEING for kind in kinds], np.bool_)
    above_floor = above(detections.scores, detections.labels, default_drawing(spec), spec)
    rows = np.concatenate([np.flatnonzero(differs), np.flatnonzero(above_floor & ~differs)])
    return rows[:_MOST_BOXES] if len(rows) else np.arange(min(len(detections.scores), _FEW_BOXES))


def _with_boxes(
    image_u8: npt.NDArray[np.uint8],
    detections: ScoredBoxes,
    rows: npt.NDArray[np.intp],
    kinds: Sequence[str],
    spec: ModelSpec,
) -> npt.NDArray[np.uint8]:
    """Boxes in the colours of their classes; what became of one that differs stands behind its score."""
    boxes, scores, labels = (array[rows] for array in detections)
    texts = [
        f"{spec.categories[label].name} {score:.2f}"
        + ("" if kinds[row] in ("same", "borderline") else f" {kinds[row]}")
        for row, label, score in zip(rows.tolist(), labels.tolist(), scores.tolist(), strict=True)
    ]
    canvas, scale = pages.legible(image_u8)
    return draw_boxes(canvas, np.asarray(boxes * scale, np.float32), texts, labels.tolist())


def _error(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}" if np.isfinite(value) else "not finite"


def _ap(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"

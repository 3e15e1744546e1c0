"""The examination as one HTML page that needs nothing else: findings, tables, and the worst images with boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime import pages
from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.drawing import draw_boxes, draw_coloured
from aweigh.runtime.images.reading import read_image
from aweigh.train.data.records import Fault, ImageRecord
from aweigh.train.doctor.examination import Examination
from aweigh.train.doctor.findings import KINDS, Grade

_SOME, _WORST, _PAIRS, _CASES = 12, 24, 12, 20
_LARGEST_PX = 560
_COLOURS: dict[Grade, tuple[int, int, int]] = {
    "error": (235, 50, 50),
    "warning": (255, 160, 30),
    "note": (70, 130, 230),
}
_KEPT = (60, 190, 110)


def write_page(examination: Examination, path: Path) -> None:
    """Whole or not at all. Images are inside the file."""
    with atomic_write(path) as temporary:
        temporary.write_text(render(examination), encoding="utf-8")


def render(examination: Examination) -> str:
    """The page's text."""
    return pages.render(
        "aweigh.train.doctor",
        "page.html",
        style=pages.stylesheet(),
        report=examination.to_dict(),
        some=[_example(examination, record, split) for record, split in examination.some(_SOME)],
        worst=[_sheet(examination, path, split) for path, split in examination.worst(_WORST)],
        pairs=_pairs(examination),
        cases=_CASES,
        most=(_WORST, _PAIRS),
    )


def _sheet(examination: Examination, path: Path, split: str) -> dict[str, Any]:
    """An image with the boxes kept, and those that findings are about, named by their kind."""
    cases = [
        case
        for finding in examination.findings
        for case in finding.cases
        if finding.split == split and case.path == path
    ]
    kept = [record.boxes_xyxy for record in examination.splits[split].records if record.path == path]
    lines = [f"{case.kind}: {case.detail}" for case in cases]
    return {"name": path.name, "split": split, "lines": lines, "image": _drawn(path, cases, kept)}


def _example(examination: Examination, record: ImageRecord, split: str) -> dict[str, Any]:
    """An image with its boxes as training sees them, in the colours of their classes."""
    labels = record.labels.tolist()
    categories = examination.splits[split].categories
    name = f"{record.path.name} ({split}), {len(labels)} objects"
    try:
        canvas, scale = pages.legible(read_image(record.path), _LARGEST_PX)
    except BadInput:
        return {"name": name, "image": None}
    drawn = draw_boxes(canvas, record.boxes_xyxy * np.float32(scale), [categories[i].name for i in labels], labels)
    return {"name": name, "image": pages.data_uri(drawn)}


def _pairs(examination: Examination) -> list[dict[str, Any]]:
    """Images that look alike, side by side; those across splits first, as the findings are."""
    cases = [case for finding in examination.findings for case in finding.cases if case.others]
    return [
        {
            "caption": f"{case.kind}: {case.detail}",
            "images": [_drawn(p, [], []) for p in (case.path, *case.others) if p],
        }
        for case in cases[:_PAIRS]
    ]


def _drawn(path: Path, cases: list[Fault], kept: list[npt.NDArray[np.float32]]) -> str | None:
    """The image with boxes as a data URI; None if it cannot be read (a finding says so)."""
    try:
        image = read_image(path)
    except BadInput:
        return None
    marked: list[tuple[tuple[float, ...], str, tuple[int, int, int]]] = []
    for case in cases:
        colour = _COLOURS[KINDS[case.kind].grade]
        marked += [(box, case.kind, colour) for box in case.boxes_xyxy if np.isfinite(box).all()]
    plain = [(tuple(box), "", _KEPT) for boxes in kept for box in boxes.tolist()]
    rows = [*marked, *plain]
    canvas, scale = pages.legible(image, _LARGEST_PX)
    height, width = canvas.shape[:2]
    boxes = np.array([row[0] for row in rows], np.float64).reshape(-1, 4) * scale
    # Flipped corners are drawn the right way round; what lies outside shows as a line at the border.
    boxes = np.concatenate((np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])), axis=1)
    boxes = np.clip(boxes, 0, [width - 1, height - 1, width - 1, height - 1])
    # A box of no size would not be seen.
    thin = (boxes[:, 2:] - boxes[:, :2]) < 6
    boxes[:, :2] -= 3 * thin
    boxes[:, 2:] += 3 * thin
    texts, colours = [row[1] for row in rows], [row[2] for row in rows]
    return pages.data_uri(draw_coloured(canvas, boxes.astype(np.float32), texts, colours))

"""What a model file says of itself as one HTML page that needs nothing else, with its golden images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aweigh.runtime import pages
from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.card.fact_rows import Rows, engine_rows, graph_rows, receipt_words, spec_rows
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.golden import decode_golden
from aweigh.runtime.flow.confidence import above, default_drawing
from aweigh.runtime.images.drawing import draw_boxes
from aweigh.runtime.images.shown_classes import shown_classes
from aweigh.runtime.inspection import ModelFacts
from aweigh.runtime.network import Outputs
from aweigh.runtime.spec import ModelSpec

_MOST_GOLDEN = 8
_LARGEST_PX = 640


@dataclass(frozen=True)
class _Shown:
    """A golden image on the page: its address, and what stands below it."""

    data: str
    caption: str


def write_page(facts: ModelFacts, path: Path) -> None:
    """Write the page, whole or not at all. Raises BadInput for golden images that aweigh did not write."""
    text = model_page(facts)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def model_page(facts: ModelFacts) -> str:
    """The page as HTML: receipt, tensors, classes, preprocessing and post-processing, graph or engine, golden images.

    Raises:
        BadInput: golden images that aweigh did not write.

    Example:
        >>> from aweigh.runtime import inspect_model
        >>> page = model_page(inspect_model(model_path))
        >>> "<td>left half</td>" in page, "http" in page
        (True, False)
    """
    spec = facts.spec
    sections: dict[str, Rows] = {"Preprocessing, post-processing, origin": spec_rows(spec, facts.precision)}
    if facts.engine is not None:
        sections["Engine"] = engine_rows(facts.engine)
    if facts.graph is not None:
        sections["Graph"] = graph_rows(facts.graph, facts.metadata)
    proved = facts.receipt is not None and (facts.receipt.sha256_matches or facts.receipt.parent_matches)
    verdict = facts.receipt.verdict if facts.receipt is not None and proved else None
    return pages.render(
        "aweigh.runtime.card",
        "model.html",
        style=pages.stylesheet(),
        facts=facts,
        spec=spec,
        stamp={"passed": "passed", "failed": "failed"}.get(verdict or "", "no receipt"),
        receipt=receipt_words(facts),
        megabytes=f"{facts.bytes / 1e6:.1f}",
        sections=sections,
        classes=shown_classes(spec),
        golden=_golden(facts),
    )


def _golden(facts: ModelFacts) -> list[_Shown]:
    if facts.golden is None:
        return []
    return [
        _shown(image.name, image.image_u8, expected, facts.spec)
        for image, expected in decode_golden(facts.golden)[:_MOST_GOLDEN]
    ]


def _shown(name: str, image_u8: npt.NDArray[np.uint8], expected: Outputs, spec: ModelSpec) -> _Shown:
    if spec.post.kind == "raw":
        return _Shown(pages.data_uri(pages.legible(image_u8, _LARGEST_PX)[0]), f"{name}: points, no detections")
    boxes, scores, labels = _rows(name, expected, len(spec.categories))
    keep = above(scores, labels, default_drawing(spec), spec)
    large, scale = pages.legible(image_u8, _LARGEST_PX)
    height, width = large.shape[:2]
    drawn = np.clip(boxes[keep] * scale, 0, [width, height, width, height]).astype(np.float32)
    kept = labels[keep].tolist()
    words = [f"{spec.categories[i].name} {score:.2f}" for i, score in zip(kept, scores[keep].tolist(), strict=True)]
    caption = f"{name}: {len(kept)} of {len(scores)} detections drawn"
    return _Shown(pages.data_uri(draw_boxes(large, drawn, words, kept)), caption)


def _rows(
    name: str, expected: Outputs, classes: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Boxes [N, 4], scores [N] and labels [N] of a golden image. Raises BadInput where they are none."""
    try:
        boxes = np.asarray(expected["boxes"], np.float64).reshape(-1, 4)
        scores = np.asarray(expected["scores"], np.float64)
        labels = np.asarray(expected["labels"], np.int64)
        right = scores.shape == labels.shape == (len(boxes),) and bool(np.isfinite(boxes).all())
        if right and ((labels >= 0) & (labels < classes)).all():
            return boxes, scores, labels
        reason = "sizes, labels or boxes out of range"
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        reason = repr(error)
    raise BadInput(f"golden images: {name}: rows that aweigh does not write ({reason})")

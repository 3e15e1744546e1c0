"""AP of two models on a split, and what of its difference hangs on boxes that lie on a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aweigh.export.proof.checks import check_ap
from aweigh.export.proof.sides import Side
from aweigh.export.proof.threshold_shift import threshold_shifts
from aweigh.runtime.agreement.tolerances import Tolerances
from aweigh.train.data.records import Split
from aweigh.train.evaluation.coco import SUMMARY, coco_metrics
from aweigh.train.evaluation.metrics import Metrics, ResultRow
from aweigh.train.evaluation.run import coco_results

# A box whose IoU with an object is 0.75 to the last digit counts for one side and not for the other, though nothing
# differs: on 87 images that one box is 0.005 of AP75. Where AP misses its tolerance it is taken again with COCO's
# thresholds so much lower and higher. On boxes of 20 pixels it is 0.001 pixels, five times what FP32 was seen to move.
IOU_SHIFT = 1e-4


def compare_ap(subject: Side, reference: Side, split: Split, tolerances: Tolerances) -> dict[str, Any]:
    """The ``ap`` of a receipt.

    Returns:
        COCO's figures of the two sides, ``trained`` and ``exported``, their ``difference``, that with other IoU
        thresholds (``difference_beside``, by what was added to them; empty where the first is within its tolerance) and
        ``score_threshold``, see ``thresholds.threshold_shifts``.
    """
    found = {
        "trained": coco_results(reference.network, split, note=reference.name),
        "exported": coco_results(subject.network, split, note=subject.name),
    }
    figures = _figures(split, found)
    ap = {
        "split": split.name,
        "images": len(split.records),
        **{side: {name: values[name] for name in SUMMARY} for side, values in figures.items()},
        "difference": _difference(figures),
        "difference_beside": {},
        "score_threshold": threshold_shifts(figures["trained"], found["trained"], found["exported"]),
    }
    if not check_ap(ap, tolerances).passed:
        ap["difference_beside"] = {
            f"{shift:+g}": _difference(_figures(split, found, shift)) for shift in (-IOU_SHIFT, IOU_SHIFT)
        }
    return ap


def _figures(split: Split, found: Mapping[str, Sequence[ResultRow]], iou_shift: float = 0.0) -> dict[str, Metrics]:
    return {side: coco_metrics(split, results, iou_shift) for side, results in found.items()}


def _difference(figures: Mapping[str, Metrics]) -> dict[str, float | None]:
    trained, exported = figures["trained"], figures["exported"]
    pairs = {name: (trained[name], exported[name]) for name in SUMMARY}
    return {name: None if ours is None or theirs is None else theirs - ours for name, (ours, theirs) in pairs.items()}

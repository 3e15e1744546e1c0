"""AP of two models on a split, and how much of its difference comes from boxes that lie on a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from aweigh.export.proof.checks import Check, Part
from aweigh.export.proof.sides import Side
from aweigh.export.proof.threshold_shift import ThresholdShift, threshold_shifts
from aweigh.runtime.agreement.tolerances import Tolerances
from aweigh.train.data.records import Split
from aweigh.train.evaluation.coco import SUMMARY, coco_metrics
from aweigh.train.evaluation.metrics import Metrics, ResultRow
from aweigh.train.evaluation.run import coco_results

# A box whose IoU with an object is 0.75 to the last digit counts for one side and not for the other, though nothing
# differs: on 87 images that one box is 0.005 of AP75. Where AP misses its tolerance it is taken again with COCO's
# thresholds so much lower and higher. On boxes of 20 pixels it is 0.001 pixels, five times what FP32 was seen to move.
IOU_SHIFT = 1e-4
# Of COCO's twelve metrics these decide; those by size depend on a handful of objects, and are only shown.
_DECIDING = ("AP", "AP50", "AP75", "AR100")


@dataclass(frozen=True)
class ApComparison:
    """COCO's twelve metrics of two models on a split, 0 to 1; None where no object is of that size.

    Attributes:
        images: of the split.
        trained, exported: by name.
        difference: exported minus trained.
        shifted: the same with other IoU thresholds, by what was added to them; empty where ``difference`` is
            within its tolerance.
        score_threshold: by category id.
    """

    split: str
    images: int
    trained: Mapping[str, float | None]
    exported: Mapping[str, float | None]
    difference: Mapping[str, float | None]
    shifted: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    score_threshold: Mapping[str, ThresholdShift] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The ``ap`` of a receipt."""
        return {"difference_beside" if name == "shifted" else name: value for name, value in asdict(self).items()}


def compare_ap(subject: Side, reference: Side, split: Split, tolerances: Tolerances) -> ApComparison:
    """Evaluate both on the split; again with other IoU thresholds where the difference is beyond its tolerance."""
    rows = {
        "trained": coco_results(reference.network, split, note=reference.name),
        "exported": coco_results(subject.network, split, note=subject.name),
    }
    metrics = _metrics(split, rows)
    ap = ApComparison(
        split=split.name,
        images=len(split.records),
        trained={name: metrics["trained"][name] for name in SUMMARY},
        exported={name: metrics["exported"][name] for name in SUMMARY},
        difference=_difference(metrics),
        score_threshold=threshold_shifts(metrics["trained"], rows["trained"], rows["exported"]),
    )
    if check_ap(ap, tolerances).passed:
        return ap
    shifted = {f"{shift:+g}": _difference(_metrics(split, rows, shift)) for shift in (-IOU_SHIFT, IOU_SHIFT)}
    return replace(ap, shifted=shifted)


def check_ap(ap: ApComparison, tolerances: Tolerances) -> Check:
    """The largest difference of the metrics that decide.

    Of each metric's differences, at COCO's IoU thresholds and at slightly lower and higher ones (``shifted``,
    where they were taken), the smallest counts: a difference at only one of them comes from boxes on the threshold.
    """
    taken = [ap.difference, *ap.shifted.values()]
    known: dict[str, float] = {}
    for name in _DECIDING:
        values = [value for value in (difference[name] for difference in taken) if value is not None]
        if len(values) == len(taken):
            known[name] = min(values, key=abs)
    worst = max(known, key=lambda name: abs(known[name]), default="AP")
    error = known.get(worst, 0.0)
    measured = f"{error:+.4f} ({worst})" if known else "no objects to find"
    if ap.shifted:
        plain = {name: ap.difference[name] or 0.0 for name in known}
        largest = max(plain, key=lambda name: abs(plain[name]))
        shifts = " and ".join(ap.shifted)
        measured += f" with COCO's IoU thresholds moved by {shifts}; at COCO's own {plain[largest]:+.4f} ({largest})"
    return Check("average precision", abs(error) <= tolerances.ap, measured, f"{tolerances.ap}", Part.OUTPUTS)


def _metrics(split: Split, rows: Mapping[str, Sequence[ResultRow]], iou_shift: float = 0.0) -> dict[str, Metrics]:
    return {side: coco_metrics(split, results, iou_shift) for side, results in rows.items()}


def _difference(metrics: Mapping[str, Metrics]) -> dict[str, float | None]:
    trained, exported = metrics["trained"], metrics["exported"]
    pairs = {name: (trained[name], exported[name]) for name in SUMMARY}
    return {name: None if ours is None or theirs is None else theirs - ours for name, (ours, theirs) in pairs.items()}

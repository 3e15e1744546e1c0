"""AP of two models on a split, and how much of its difference comes from boxes that lie on a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from aweigh.export.proof.checks import Check, Part
from aweigh.export.proof.metrics.threshold_shift import ThresholdShift, threshold_shifts
from aweigh.export.proof.sides import Side
from aweigh.runtime.agreement.tolerances import Tolerances
from aweigh.train.data.records import Split
from aweigh.train.evaluation.bootstrap import difference_intervals
from aweigh.train.evaluation.coco import SUMMARY, CocoEvaluation, coco_metrics
from aweigh.train.evaluation.metrics import Metrics, ResultRow
from aweigh.train.evaluation.run import coco_results

# A box whose IoU with an object is 0.75 to the last digit counts for one side and not for the other, though nothing
# differs: on 87 images that one box is 0.005 of AP75. Where AP misses its tolerance it is taken again with COCO's
# thresholds so much lower and higher. On boxes of 20 pixels it is 0.001 pixels, five times what FP32 was seen to move.
IOU_SHIFT = 1e-4
# Of COCO's twelve metrics these decide; those by size depend on a handful of objects, and are only shown.
_DECIDING = ("AP", "AP50", "AP75", "AR100")
_WORST = 4  # images that are named


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
        interval: where 90 % of the differences lie when the images are drawn again, by metric that decides; empty where
            ``difference`` is within its tolerance.
        worst: files of the images in which the exported model finds fewer objects, most lost first, at most four;
            empty where ``difference`` is within its tolerance.
    """

    split: str
    images: int
    trained: Mapping[str, float | None]
    exported: Mapping[str, float | None]
    difference: Mapping[str, float | None]
    shifted: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    score_threshold: Mapping[str, ThresholdShift] = field(default_factory=dict)
    interval: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    worst: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The ``ap`` of a receipt."""
        return {"difference_beside" if name == "shifted" else name: value for name, value in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One side's detections on a split, and how COCO judges them."""

    split: Split
    rows: Sequence[ResultRow]
    evaluation: CocoEvaluation
    metrics: Metrics

    @cached_property
    def shifted(self) -> dict[float, Metrics]:
        """With slightly lower and higher IoU thresholds, by what is added to them."""
        return {shift: coco_metrics(self.split, self.rows, shift) for shift in (-IOU_SHIFT, IOU_SHIFT)}


def evaluate_side(side: Side, split: Split) -> Evaluated:
    """Run a side on all images of the split."""
    rows = coco_results(side.network, split, note=side.name)
    evaluation = CocoEvaluation(split, rows)
    return Evaluated(split, rows, evaluation, evaluation.metrics())


def compare_ap(exported: Evaluated, trained: Evaluated, split: Split, tolerances: Tolerances) -> ApComparison:
    """What the exported model finds on a split next to what the trained one finds.

    Where the difference is beyond its tolerance: again with other IoU thresholds, and on images drawn again.
    """
    rows = {"trained": trained.rows, "exported": exported.rows}
    metrics = {"trained": trained.metrics, "exported": exported.metrics}
    ap = ApComparison(
        split=split.name,
        images=len(split.records),
        trained={name: metrics["trained"][name] for name in SUMMARY},
        exported={name: metrics["exported"][name] for name in SUMMARY},
        difference=_difference(metrics),
        score_threshold=threshold_shifts(metrics["trained"], rows["trained"], rows["exported"]),
    )
    if check_ap(ap, tolerances, strict=True).passed:
        return ap
    shifted = {
        f"{shift:+g}": _difference({"trained": trained.shifted[shift], "exported": exported.shifted[shift]})
        for shift in trained.shifted
    }
    hits = {"trained": trained.evaluation.hits(), "exported": exported.evaluation.hits()}
    interval = difference_intervals(hits["trained"], hits["exported"])
    found = {name: np.sum([one.found for one in classes], axis=0) for name, classes in hits.items()}
    lost = found["trained"] - found["exported"]
    worst = [int(i) for i in np.argsort(-lost, kind="stable")[:_WORST] if lost[i] > 0]
    names = tuple(split.records[i].path.name for i in worst)
    return replace(ap, shifted=shifted, interval=interval, worst=names)


def check_ap(ap: ApComparison, tolerances: Tolerances, strict: bool = False) -> Check:
    """Whether the exported model is as good as the trained one, by the metrics that decide.

    It fails where one of them fell by more than the tolerance beyond what the choice of the images explains, which is
    where ``interval`` lies below a loss of the tolerance: with a smaller loss, or none, such images would be drawn in
    one of twenty cases at most. A gain is no failure. ``strict`` asks for equality: no metric may differ by
    more than the tolerance, either way.

    Of each metric's differences, at COCO's IoU thresholds and at slightly lower and higher ones (``shifted``,
    where they were taken), the smallest counts: a difference at only one of them comes from boxes on the threshold.
    """
    taken = [ap.difference, *ap.shifted.values()]
    known: dict[str, float] = {}
    for name in _DECIDING:
        values = [value for value in (difference[name] for difference in taken) if value is not None]
        if len(values) == len(taken):
            known[name] = min(values, key=abs)
    if strict:
        beyond = {name: value for name, value in known.items() if abs(value) > tolerances.ap}
        limit = f"{tolerances.ap} either way"
    else:
        lost = {name: value for name, value in known.items() if value < -tolerances.ap}
        beyond = {name: value for name, value in lost.items() if _more_than_chance(ap, name, tolerances.ap)}
        limit = f"no loss above {tolerances.ap}"
    shown = beyond or known
    worst = max(shown, key=lambda name: abs(shown[name]), default="AP")
    measured = f"{shown[worst]:+.4f} ({worst})" if known else "no objects to find"
    if ap.shifted and known:
        plain = {name: ap.difference[name] or 0.0 for name in known}
        largest = max(plain, key=lambda name: abs(plain[name]))
        shifts = " and ".join(ap.shifted)
        measured += f" with COCO's IoU thresholds moved by {shifts}; at COCO's own {plain[largest]:+.4f} ({largest})"
    if worst in ap.interval:
        low, high = ap.interval[worst]
        measured += f"; on images drawn again {low:+.4f} to {high:+.4f}"
    return Check("average precision", not beyond, measured, limit, Part.OUTPUTS)


def _more_than_chance(ap: ApComparison, name: str, allowed: float) -> bool:
    return name not in ap.interval or ap.interval[name][1] < -allowed


def _difference(metrics: Mapping[str, Metrics]) -> dict[str, float | None]:
    trained, exported = metrics["trained"], metrics["exported"]
    pairs = {name: (trained[name], exported[name]) for name in SUMMARY}
    return {name: None if ours is None or theirs is None else theirs - ours for name, (ours, theirs) in pairs.items()}

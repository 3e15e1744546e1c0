"""What rounding alone does to the trained model: how far a correct file in FP16 may be from it.

FP16 rounds every value to 11 bits. Most networks carry that through as it is; some amplify it: in EfficientNet-Lite,
whose first filters weigh up to 35 and subtract nearly equal values, an element of C4 moves by 0.001 to 0.03 of the
largest value, depending on the image and on the training. One limit for all of them would be either wrong for those or
blind for the others. So the trained model is computed once more on the same images, with its weights and tensors
rounded to nearest in torch, by nothing of the exporter: a file may be twice as far from the trained model as that one,
where that is more than the limit of its precision. Measured on lite0, files rounded to nearest are 0.5 to 1.4 times as
far, image by image; those of the exporter, which rounds with more care, less.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aweigh.export.graph.layers import convolutions
from aweigh.export.precision.table import graph_precision
from aweigh.export.proof.sides import OnnxSide, Side, Trained
from aweigh.runtime.agreement.match import Match
from aweigh.runtime.agreement.tolerances import TOLERANCES, Tolerances

_TIMES = 2.0
_MORE = 2  # detections: counts as small as these scatter (PAA on raccoon: 1 to 4 of 60 to 80, the rounded model 1 to 3)
# Tolerances of detections: where one of them is given by hand, their number is held to what was given.
_OF_DETECTIONS = frozenset({"moved_px", "score", "share"})


@dataclass(frozen=True)
class Rounding:
    """Differences of the rounded model from the trained one, on the same images as a file's.

    Attributes:
        stages: error of each tensor, as ``StageError.max_rel``.
        match: of the detections; None for a raw file.
        widest: what no limit is widened beyond.
    """

    stages: Mapping[str, float]
    match: Match | None
    widest: Tolerances

    def stage_limit(self, stage: str, limit: float) -> float:
        """Of a tensor whose precision allows ``limit``."""
        explained = _TIMES * self.stages.get(stage, 0.0)
        return max(limit, min(explained, self.widest.of_stage(stage))) if math.isfinite(explained) else limit

    def allowed(self, differing: int, limit: int, base: int) -> int:
        """Of ``base`` detections, where ``limit`` may differ by their precision, and ``differing`` do in the rounded
        model.
        """
        explained = math.floor(_TIMES * differing) + _MORE if differing else 0
        return max(limit, min(explained, math.floor(self.widest.share * base)))

    def held_to(self, given: Collection[str]) -> Rounding:
        """Without what would widen a limit that was given by hand, by the names of the tolerances."""
        stages = {} if "stage" in given else self.stages
        return Rounding(stages, None if _OF_DETECTIONS & set(given) else self.match, self.widest)

    def to_dict(self) -> dict[str, Any]:
        """The form that the receipt has; an infinite error is null."""
        stages = {name: error if math.isfinite(error) else None for name, error in self.stages.items()}
        return {"stages": stages, "match": None if self.match is None else asdict(self.match)}


def rounded_twin(reference: Side, subject: Side) -> Trained | None:
    """The trained model, rounded as ``subject`` says it is; None where limits are fixed, as where the reference is no
    checkpoint, or for INT8, whose rounding is chosen by the exporter.
    """
    precision = graph_precision(subject.spec.precision)
    if precision.widest is None or not isinstance(reference, Trained):
        return None
    kept = _kept_high(subject) if isinstance(subject, OnnxSide) else ()
    return reference.changed(lambda detector: precision.rounded(detector, kept))


def widest_of(subject: Side) -> Tolerances:
    """What no limit of this file is widened beyond."""
    precision = graph_precision(subject.spec.precision)
    return TOLERANCES[precision.widest or precision.name]


def _kept_high(subject: OnnxSide) -> tuple[str, ...]:
    """The layers of a file that it does not compute in its precision."""
    precision = graph_precision(subject.spec.precision)
    return tuple(layer for layer, node in convolutions(subject.typed.graph) if not precision.is_low(node))

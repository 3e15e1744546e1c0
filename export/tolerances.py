"""How far an exported file may be from the trained model, by precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from aweigh.runtime.errors import BadInput


@dataclass(frozen=True)
class Tolerances:
    """What two runs of the same network may differ by.

    Attributes:
        stage: max |a - b| / max |b| of a tensor between two stages.
        moved_px: distance of a side of a box, network pixels.
        score: difference of two scores.
        share: of detections lost, new, relabelled or moved. Not 0, for two boxes beside the limit of the IoU fall to
            either side by the last digit, and one that falls brings others with it.
        ap: difference of an average precision, 0 to 1.
        input: as ``stage``, of the normalised input, which is FP32 in every precision.
    """

    stage: float
    moved_px: float
    score: float
    share: float
    ap: float
    input: float = 2e-4


# fp32 is judged by the last digits.
TOLERANCES = {
    "fp32": Tolerances(stage=2e-4, moved_px=0.01, score=1e-4, share=0.005, ap=0.001),
    "fp16": Tolerances(stage=0.03, moved_px=1.0, score=0.01, share=0.03, ap=0.002),
    "bf16": Tolerances(stage=0.15, moved_px=4.0, score=0.05, share=0.1, ap=0.005),
    "int8": Tolerances(stage=0.5, moved_px=8.0, score=0.15, share=0.2, ap=0.005),
}
# What a flag may change; the normalised input has the same tolerance everywhere.
ADJUSTABLE = ("ap", "score", "share", "moved_px", "stage")


def flag(name: str) -> str:
    """``--tol-moved-px`` for ``moved_px``."""
    return f"--tol-{name.replace('_', '-')}"


def tolerances_for(precision: str, given: Mapping[str, float]) -> tuple[Tolerances, dict[str, float]]:
    """Tolerances of a precision with some overridden, and the defaults of those that were.

    Raises BadInput for a negative value or NaN.
    """
    for name, value in given.items():
        if not value >= 0:
            raise BadInput(f"{flag(name)} {value}: expected 0 or more")
    default = TOLERANCES[precision]
    replaced = {name: asdict(default)[name] for name, value in given.items() if value != asdict(default)[name]}
    return replace(default, **given), replaced


def override_warnings(tolerances: Tolerances, replaced: Mapping[str, float], precision: str) -> list[str]:
    """One sentence per tolerance that was not left as it is."""
    return [
        f"Tolerance {name} was set to {asdict(tolerances)[name]:g} by hand ({flag(name)}); "
        f"without it, {precision} is held to {value:g}."
        for name, value in replaced.items()
    ]

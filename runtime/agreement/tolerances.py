"""How far two runs of one network may be apart, by precision: for the receipt of an export and for the self-test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from aweigh.runtime.errors import BadInput


@dataclass(frozen=True)
class Tolerances:
    """What two runs of the same network may differ by.

    Attributes:
        stage: max |a - b| / max |b| of a tensor between two stages.
        moved_px: distance of a side of a box, network pixels.
        score: difference of two scores.
        share: of detections lost, new, relabelled or moved. Not 0, as two boxes close to the limit of the IoU fall to
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

    def of_stage(self, stage: str) -> float:
        """The limit of a tensor, by its name."""
        return self.input if stage == "input" else self.stage


# fp32 is judged by the last digits: both sides compute the same, in another order.
# fp16 rounds each value to 11 bits. BCCD, ResNet-18 (FCOS and AutoAssign): stages within 0.001 of their largest value,
# scores within 0.0004, AP within 0.0005; now and then NMS keeps the other of two nearly equal candidates, which then
# stands pixels away (4 of 600). Ten times the measured error in what is continuous, a fiftieth of the detections. A
# receipt widens them for a network that amplifies rounding (export/proof/rounding.py).
# bf16 has 8 bits, an eighth of fp16's digits. Computed by OpenVINO 2026.4.1 from the FP32 files of the same models: AP
# figures within 0.004 (AP +0.0004 and +0.0011); in the self-test of FCOS 1 of 120 detections moved by more than 4 px,
# scores within 0.004.
# int8 rounds to 1/127 of a tensor's range, and is judged by its detections and AP. Same models: stages within 0.06, AP
# figures within 0.003; 2 of 326 and 13 of 600 detections lost or moved by more than 8 px; scores within 0.04 (FCOS) and
# 0.11 (AutoAssign). The limit for scores was 0.1 at first; AutoAssign missed it by a hundredth while its AP moved
# by 0.001, and it was raised to 0.2 on that. An untrained network, whose scores are noise, reaches stage errors of 0.35
# and one detection in eight: the average precision decides, and it has the tightest limit.
TOLERANCES = {
    "fp32": Tolerances(stage=2e-4, moved_px=0.01, score=1e-4, share=0.005, ap=0.001),
    "fp16": Tolerances(stage=0.01, moved_px=1.0, score=0.005, share=0.02, ap=0.002),
    "bf16": Tolerances(stage=0.08, moved_px=4.0, score=0.04, share=0.1, ap=0.005),
    "int8": Tolerances(stage=0.3, moved_px=8.0, score=0.2, share=0.15, ap=0.005),
}
# What a flag may change, and its help text; the normalised input has the same tolerance everywhere.
ADJUSTABLE = {
    "ap": "difference of AP",
    "score": "difference of two scores",
    "share": "part of the detections that may be lost, new, relabelled or moved",
    "moved_px": "how far a side of a box may move, pixels of the network input",
    "stage": "error of a tensor, relative to its largest value",
}


def flag(name: str) -> str:
    """``--tol-moved-px`` for ``moved_px``."""
    return f"--tol-{name.replace('_', '-')}"


def tolerances_for(precision: str | Sequence[str], given: Mapping[str, float]) -> tuple[Tolerances, dict[str, float]]:
    """Tolerances of a precision with some overridden, and the defaults of those that were.

    Of several precisions, as of two files compared with each other, each tolerance is the widest.

    Raises BadInput for a negative value or NaN.
    """
    for name, value in given.items():
        if not value >= 0:
            raise BadInput(f"{flag(name)} {value}: expected 0 or more")
    sides = [asdict(TOLERANCES[name]) for name in ([precision] if isinstance(precision, str) else precision)]
    widest = {name: max(side[name] for side in sides) for name in sides[0]}
    replaced = {name: widest[name] for name, value in given.items() if value != widest[name]}
    return replace(Tolerances(**widest), **given), replaced


def override_warnings(tolerances: Tolerances, replaced: Mapping[str, float], precision: str) -> list[str]:
    """One sentence per tolerance that was not left as it is."""
    return [
        f"Tolerance {name} was set to {asdict(tolerances)[name]:g} by hand ({flag(name)}); "
        f"without it, {precision} is held to {value:g}."
        for name, value in replaced.items()
    ]

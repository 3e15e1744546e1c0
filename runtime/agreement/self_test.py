"""The self-test: does this machine compute what the trained model gave for the file's golden images?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aweigh.runtime.agreement.match import Match, ScoredBoxes, lowest_reported, match_detections
from aweigh.runtime.agreement.tolerances import TOLERANCES
from aweigh.runtime.backends.base import Backend
from aweigh.runtime.errors import BadInput, CheckFailed
from aweigh.runtime.files.golden import decode_golden
from aweigh.runtime.network import Outputs
from aweigh.runtime.precision import PRECISIONS
from aweigh.runtime.spec import PostSpec

# Of the few detections in two images, one in twenty may fall to the other side of a threshold: the last digits differ
# between processors. A real fault moves all of them.
_SMALL_SAMPLE_SHARE = 0.05


@dataclass(frozen=True)
class SelfTestRule:
    """What a self-test lets pass.

    Attributes:
        moved_px: beyond it a box has moved, pixels of the network input.
        score: largest difference of two scores.
        share: of the detections that may be lost, new, relabelled or moved, 0 to 1.
    """

    moved_px: float
    score: float
    share: float

    @classmethod
    def of(cls, precision: str) -> SelfTestRule:
        """The rule for a file that is computed in ``precision``."""
        tolerances = TOLERANCES[precision]
        return cls(tolerances.moved_px, tolerances.score, max(tolerances.share, _SMALL_SAMPLE_SHARE))


@dataclass(frozen=True)
class SelfTest:
    """The outcome of a self-test.

    Attributes:
        pictures: number of golden images compared; 0 where the file holds none, and nothing was tested.
        detections: of the trained model on them; of a raw file its best points.
        lost, new, relabelled, moved: detections that differ, see ``match.Match``; together they may be ``allowed``.
        max_box_error_px: largest distance of two sides of a box, pixels of the network input.
        max_score_error: largest difference of two scores.
        precision: whose tolerances apply: the coarser of the file's and the one computed in.
    """

    pictures: int
    detections: int
    lost: int
    new: int
    relabelled: int
    moved: int
    allowed: int
    max_box_error_px: float
    max_score_error: float
    precision: str

    @property
    def differing(self) -> int:
        """Detections lost, new, relabelled or moved."""
        return self.lost + self.new + self.relabelled + self.moved

    @property
    def passed(self) -> bool:
        """True also where nothing was tested."""
        return self.differing <= self.allowed and self.max_score_error <= SelfTestRule.of(self.precision).score

    def __str__(self) -> str:
        if not self.pictures:
            return "no golden images in the file, nothing was tested"
        rule = SelfTestRule.of(self.precision)
        return (
            f"{self.pictures} golden images, {self.detections} detections: {self.lost} lost, {self.new} new, "
            f"{self.relabelled} relabelled, {self.moved} moved by more than {rule.moved_px:g} px, together at "
            f"most {self.allowed}; largest box error {self.max_box_error_px:.3g} px; largest score error "
            f"{self.max_score_error:.1e}, at most {rule.score:g} ({self.precision})"
        )


def run_self_test(backend: Backend) -> SelfTest:
    """Run the golden images one by one, in the smallest batch that the file takes, and compare their detections.

    Raises:
        BadInput: golden images that aweigh did not write.
        CheckFailed: the matrix form of NMS did not settle.
    """
    precision = min(backend.precision, backend.spec.precision, key=PRECISIONS.index)
    rule = SelfTestRule.of(precision)
    golden = decode_golden(backend.golden) if backend.golden else []
    match = Match()
    for image, expected in golden:
        outputs = backend.infer(np.repeat(image.image_u8[None], backend.spec.batch[0], axis=0))
        try:
            match += _compare(expected, outputs, backend.spec.post, rule)
        except (KeyError, ValueError, TypeError, OverflowError, IndexError) as error:
            raise BadInput(f"golden images: {image.name}: rows that aweigh does not write ({error!r})") from error
    base = max(match.compared, match.compared - match.lost + match.new)
    return SelfTest(
        pictures=len(golden),
        detections=match.compared,
        lost=match.lost,
        new=match.new,
        relabelled=match.relabelled,
        moved=match.moved,
        allowed=int(rule.share * base),
        max_box_error_px=match.max_moved_px,
        max_score_error=match.max_score_error,
        precision=precision,
    )


def require_self_test(path: str, backend: Backend) -> SelfTest:
    """``run_self_test``. Raises CheckFailed with its numbers where it does not pass."""
    result = run_self_test(backend)
    if not result.passed:
        raise CheckFailed(
            f"{path}: the self-test on load failed with {', '.join(backend.providers)}: {result}; this machine or "
            "library computes otherwise than the trained model. Try another --backend or version of it, or "
            "aweigh verify; --no-self-test takes the file as it is"
        )
    return result


def _compare(expected: Outputs, outputs: Outputs, post: PostSpec, rule: SelfTestRule) -> Match:
    if post.kind == "raw":
        return _compare_points(expected, outputs, rule)
    count = int(outputs["num_dets"][0])
    ours = _detections(expected)
    theirs = _detections({name: outputs[name][0, :count] for name in ("boxes", "scores", "labels")})
    floor = max(lowest_reported(scores, post) for _, scores, _ in (ours, theirs))
    return match_detections(ours, theirs, rule.moved_px, floor + rule.score)


def _compare_points(expected: Outputs, outputs: Outputs, rule: SelfTestRule) -> Match:
    """Of a file without detections: the points that scored best in the trained model."""
    points = expected["points"].astype(np.int64)
    shifts = np.abs(outputs["boxes"][0, points] - expected["boxes"].astype(np.float32)).max(axis=1, initial=0.0)
    score_errors = np.abs(outputs["scores"][0, points] - expected["scores"].astype(np.float32))
    return Match(
        compared=len(points),
        moved=int((shifts > rule.moved_px).sum()),
        max_moved_px=float(shifts.max(initial=0.0)),
        max_score_error=float(score_errors.max(initial=0.0)),
    )


def _detections(rows: Outputs) -> ScoredBoxes:
    """In the graph's types, which JSON does not keep."""
    return ScoredBoxes(
        rows["boxes"].astype(np.float32).reshape(-1, 4),
        rows["scores"].astype(np.float32),
        rows["labels"].astype(np.int64),
    )

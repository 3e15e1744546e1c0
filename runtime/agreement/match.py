"""Match the detections of two models on the same image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from aweigh.runtime.boxes import overlap
from aweigh.runtime.spec import PostSpec

Floats: TypeAlias = npt.NDArray[np.float32]
# Two boxes with less overlap are not the same object.
SAME_OBJECT_IOU = 0.5
_RESCORED_SHARE = 0.01


class ScoredBoxes(NamedTuple):
    """Detections of one image: boxes_xyxy [N, 4], scores [N], labels [N]."""

    boxes_xyxy: Floats
    scores: Floats
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Match:
    """Differences between two sets of detections of the same images.

    Attributes:
        compared: detections of the first model.
        lost: of these, how many have no partner in the second; new: the reverse.
        borderline: in one of them only, with a score close to the lowest that is reported; neither lost nor new.
        relabelled: matched at the same place under another label.
        moved: matched, with a side more than the tolerance away.
        rescored: matched at the same place under the same label, with a score that changed by more than its limit.
        max_moved_px: largest distance between two sides, in the pixels of the boxes; of all that are matched.
        max_score_error: largest difference between two scores; of those matched at the same place under the same label.
            Another survivor of NMS has another score, and counts as moved.
    """

    compared: int = 0
    lost: int = 0
    new: int = 0
    borderline: int = 0
    relabelled: int = 0
    moved: int = 0
    rescored: int = 0
    max_moved_px: float = 0.0
    max_score_error: float = 0.0

    @property
    def differing(self) -> int:
        return self.lost + self.new + self.relabelled + self.moved

    @property
    def base(self) -> int:
        """Detections of the model that has more of them, without the borderline ones; at least 1."""
        return max(self.compared, self.compared - self.lost + self.new, 1)

    def allowed(self, share: float) -> int:
        """How many may differ where ``share`` (0 to 1) of the detections may."""
        return math.floor(share * self.base)

    @property
    def allowed_rescored(self) -> int:
        """How many scores may change by more than their limit: one of a hundred, so that what passes does not depend on
        the number of images; a maximum alone rises with every image that is looked at.
        """
        return math.floor(_RESCORED_SHARE * self.base)

    def __add__(self, other: Self) -> Match:
        sums: dict[str, Any] = {}
        for field in fields(self):
            pair = (getattr(self, field.name), getattr(other, field.name))
            sums[field.name] = max(pair) if field.name.startswith("max_") else sum(pair)
        return Match(**sums)


@dataclass(frozen=True)
class Pair:
    """A detection of the first model and its partner in the second.

    Attributes:
        first, second: rows of the two.
        same_label: whether the labels agree.
        moved: whether a side lies more than the tolerance away.
        shift_px: largest distance between two sides, in the pixels of the boxes.
        iou: of the two boxes, 0 to 1.
        score_shift: second minus first.
    """

    first: int
    second: int
    same_label: bool
    moved: bool
    shift_px: float
    iou: float
    score_shift: float


@dataclass(frozen=True)
class Pairing:
    """The detections of one image, row by row: matched, or in one model only.

    Attributes:
        compared: detections of the first model.
        pairs: matched, those of the same label first.
        lost, new: rows of the first and of the second without partner.
        borderline_first, borderline_second: likewise, with a score close to the lowest that is reported.
        score_limit: beyond it a score has changed.
    """

    compared: int
    pairs: tuple[Pair, ...]
    lost: tuple[int, ...]
    new: tuple[int, ...]
    borderline_first: tuple[int, ...]
    borderline_second: tuple[int, ...]
    score_limit: float = math.inf

    @property
    def match(self) -> Match:
        """The rows counted."""
        still = [pair for pair in self.pairs if pair.same_label and not pair.moved]
        return Match(
            compared=self.compared,
            lost=len(self.lost),
            new=len(self.new),
            borderline=len(self.borderline_first) + len(self.borderline_second),
            relabelled=sum(not pair.same_label for pair in self.pairs),
            moved=sum(pair.moved for pair in self.pairs),
            rescored=sum(abs(pair.score_shift) > self.score_limit for pair in still),
            max_moved_px=max((pair.shift_px for pair in self.pairs), default=0.0),
            max_score_error=max((abs(pair.score_shift) for pair in still), default=0.0),
        )

    @property
    def kinds(self) -> tuple[list[str], list[str]]:
        """What became of each row of the first and of the second: the name of a count of ``Match``, or ``same``."""
        first = ["same"] * (len(self.pairs) + len(self.lost) + len(self.borderline_first))
        second = ["same"] * (len(self.pairs) + len(self.new) + len(self.borderline_second))
        for pair in self.pairs:
            if not pair.same_label:
                kind = "relabelled"
            elif pair.moved:
                kind = "moved"
            else:
                kind = "rescored" if abs(pair.score_shift) > self.score_limit else "same"
            first[pair.first] = second[pair.second] = kind
        for kinds, unmatched, faint, kind in (
            (first, self.lost, self.borderline_first, "lost"),
            (second, self.new, self.borderline_second, "new"),
        ):
            for row in unmatched:
                kinds[row] = kind
            for row in faint:
                kinds[row] = "borderline"
        return first, second


def match_detections(
    first: ScoredBoxes,
    second: ScoredBoxes,
    moved_px: float,
    borderline_score: float = 0.0,
    score_limit: float = math.inf,
) -> Match:
    """The counts of ``pair_detections``."""
    return pair_detections(first, second, moved_px, borderline_score, score_limit=score_limit).match


def pair_detections(
    first: ScoredBoxes,
    second: ScoredBoxes,
    moved_px: float,
    borderline_score: float | Mapping[int, float] = 0.0,
    same_iou: float = SAME_OBJECT_IOU,
    score_limit: float = math.inf,
) -> Pairing:
    """Compare the detections of one image from two models.

    Pairs are made one to one: of the same label first, then among those left over; in both the pair with
    the smallest sum of 1 - IoU and score difference first.

    Args:
        moved_px: beyond it a box has moved, in the pixels of the boxes.
        borderline_score: a detection without partner is borderline where its score is at most this, or this by label.
        same_iou: two boxes are of one object where their IoU is above it.
        score_limit: beyond it a score has changed.
    """
    boxes_a, scores_a, labels_a = first
    boxes_b, scores_b, labels_b = second
    distance = np.abs(boxes_a[:, None] - boxes_b[None]).max(axis=2, initial=0.0).astype(np.float64)  # [N, M] px
    iou = overlap(boxes_a[:, None], boxes_b[None])
    # The score counts as much as the overlap: where NMS kept another box of an object, it belongs to the box that has
    # its score, and not to a weak duplicate that happens to lie nearer. The distance only orders equals.
    cost = 1.0 - iou + np.abs(scores_a[:, None] - scores_b[None]) + 1e-9 * distance
    possible = iou > same_iou
    possible |= distance <= moved_px  # boxes without area have no IoU
    same = labels_a[:, None] == labels_b[None]
    matched = _nearest(np.where(possible & same, cost, np.inf))
    rest = possible.copy()
    rest[[a for a, _ in matched]] = False
    rest[:, [b for _, b in matched]] = False
    matched += _nearest(np.where(rest, cost, np.inf))
    lost, faint_a = _unmatched(first, [a for a, _ in matched], borderline_score)
    new, faint_b = _unmatched(second, [b for _, b in matched], borderline_score)
    pairs = tuple(
        Pair(
            first=a,
            second=b,
            same_label=bool(same[a, b]),
            moved=bool(distance[a, b] > moved_px),
            shift_px=float(distance[a, b]),
            iou=float(iou[a, b]),
            score_shift=float(scores_b[b]) - float(scores_a[a]),
        )
        for a, b in matched
    )
    return Pairing(len(boxes_a), pairs, lost, new, faint_a, faint_b, score_limit)


def lowest_reported(scores: Floats, post: PostSpec) -> float:
    """The score below which a detection of this image is not reported: the threshold, or the last of a full list."""
    return float(scores.min()) if len(scores) == post.max_det else post.score_threshold


def _unmatched(
    side: ScoredBoxes, taken: Sequence[int], borderline_score: float | Mapping[int, float]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Rows without partner: those that count, and those with a score of at most ``borderline_score``."""
    _, scores, labels = side
    rows = sorted(set(range(len(scores))) - set(taken))
    if isinstance(borderline_score, Mapping):
        limits = [borderline_score[label] for label in labels.tolist()]
    else:
        limits = [borderline_score] * len(scores)
    # In float32, as the scores are: a threshold of 0.05 lies below its own nearest float32.
    return tuple(r for r in rows if scores[r] > limits[r]), tuple(r for r in rows if not scores[r] > limits[r])


def _nearest(cost: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """One-to-one pairs by rising cost; an infinite cost forbids a pair."""
    pairs: list[tuple[int, int]] = []
    taken_a, taken_b = np.zeros(cost.shape[0], bool), np.zeros(cost.shape[1], bool)
    for flat in np.argsort(cost, axis=None, kind="stable"):
        a, b = divmod(int(flat), cost.shape[1])
        if not np.isfinite(cost[a, b]):
            break
        if not taken_a[a] and not taken_b[b]:
            taken_a[a] = taken_b[b] = True
            pairs.append((a, b))
    return pairs

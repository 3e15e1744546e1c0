"""Which detections of one model another one finds again."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aweigh.runtime.spec import PostSpec

Floats = npt.NDArray[np.float32]
# Below it two boxes are not the same object seen twice.
_SAME_OBJECT_IOU = 0.5


@dataclass(frozen=True)
class Match:
    """Differences between two sets of detections of the same pictures.

    Attributes:
        compared: detections of the first model.
        lost: of these, how many the second has nothing for; new: the reverse.
        borderline: neither lost nor new: found by one of them alone, with a score beside the lowest that is reported.
        relabelled: found again at the same place under another label.
        moved: found again with a side more than the tolerance away.
        max_moved_px: largest distance between two sides, network pixels; of all found again.
        max_score_error: largest difference between two scores; of those found at the same place under the same label.
            Another survivor of NMS has another score, and counts as moved.
    """

    compared: int = 0
    lost: int = 0
    new: int = 0
    borderline: int = 0
    relabelled: int = 0
    moved: int = 0
    max_moved_px: float = 0.0
    max_score_error: float = 0.0

    @property
    def differing(self) -> int:
        return self.lost + self.new + self.relabelled + self.moved

    def __add__(self, other: Self) -> Match:
        sums: dict[str, Any] = {}
        for field in fields(self):
            pair = (getattr(self, field.name), getattr(other, field.name))
            sums[field.name] = max(pair) if field.name.startswith("max_") else sum(pair)
        return Match(**sums)


def match_detections(
    first: tuple[Floats, Floats, npt.NDArray[np.int64]],
    second: tuple[Floats, Floats, npt.NDArray[np.int64]],
    moved_px: float,
    beside: float = 0.0,
) -> Match:
    """Compare (boxes_xyxy [N, 4], scores [N], labels [N]) of one picture from two models.

    Pairs are made one to one: of the same label first, nearest boxes first, then among those left over. A detection
    without partner is borderline where its score is at most ``beside``.
    """
    boxes_a, scores_a, labels_a = first
    boxes_b, scores_b, labels_b = second
    distance = np.abs(boxes_a[:, None] - boxes_b[None]).max(axis=2, initial=0.0).astype(np.float64)  # [N, M] px
    # Two classes can share one box: the score tells them, and duplicates of a label, apart.
    cost = distance + np.abs(scores_a[:, None] - scores_b[None])
    possible = _iou(boxes_a, boxes_b) > _SAME_OBJECT_IOU
    possible |= distance <= moved_px  # boxes without area have no IoU
    same = labels_a[:, None] == labels_b[None]
    pairs = _pair(np.where(possible & same, cost, np.inf))
    rest = possible.copy()
    rest[[a for a, _ in pairs]] = False
    rest[:, [b for _, b in pairs]] = False
    relabelled = _pair(np.where(rest, cost, np.inf))
    found = [*pairs, *relabelled]
    shifts = [float(distance[a, b]) for a, b in found]
    alone_a = np.delete(scores_a, [a for a, _ in found])
    alone_b = np.delete(scores_b, [b for _, b in found])
    return Match(
        compared=len(boxes_a),
        lost=int((alone_a > beside).sum()),
        new=int((alone_b > beside).sum()),
        borderline=int((alone_a <= beside).sum() + (alone_b <= beside).sum()),
        relabelled=len(relabelled),
        moved=sum(shift > moved_px for shift in shifts),
        max_moved_px=max(shifts, default=0.0),
        max_score_error=max(
            (abs(float(scores_a[a]) - float(scores_b[b])) for a, b in pairs if distance[a, b] <= moved_px), default=0.0
        ),
    )


def lowest_reported(scores: Floats, post: PostSpec) -> float:
    """The score below which a detection of this picture stays away: the threshold, or the last of a full list."""
    return float(scores.min()) if len(scores) == post.max_det else post.score_threshold


def _pair(cost: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """One-to-one pairs by rising cost; infinite ones are none."""
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


def _iou(a_xyxy: Floats, b_xyxy: Floats) -> npt.NDArray[np.float64]:
    low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    overlap = np.clip(high - low, 0, None).astype(np.float64).prod(axis=2)
    area_a, area_b = ((b[:, 2:] - b[:, :2]).astype(np.float64).prod(axis=1) for b in (a_xyxy, b_xyxy))
    ratio: npt.NDArray[np.float64] = overlap / np.maximum(area_a[:, None] + area_b[None] - overlap, 1e-9)
    return ratio

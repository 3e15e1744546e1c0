"""How much of a difference in AP could come from the choice of the images: a bootstrap over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aweigh.train.process.console import track

# The metrics that ``resampled`` gives.
NAMES = ("AP", "AP50", "AP75", "AR100")
_DRAWS = 400
_RECALLS = np.linspace(0, 1, 101)  # as pycocotools has them
_THRESHOLDS, _AT_50, _AT_75 = 10, 0, 5  # COCO's of IoU
_MOST_VALUES = 1 << 22  # of draws times detections in memory at once


@dataclass(frozen=True, eq=False)
class Hits:
    """The detections of one class on a split, best first, as COCO judges them at its T IoU thresholds.

    Attributes:
        image: [N] positions of their images in the split.
        right: [T, N] whether an object is matched.
        counted: [T, N] whether the detection counts; those on crowds and difficult objects do not.
        objects: [I] objects that count, by image.
    """

    image: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]
    counted: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.int64]

    @property
    def found(self) -> npt.NDArray[np.int64]:
        """[I] objects that are found, by image, summed over the IoU thresholds."""
        right = (self.right & self.counted).sum(axis=0)
        return np.bincount(self.image, right, minlength=len(self.objects)).astype(np.int64)


def difference_intervals(
    first: Sequence[Hits], second: Sequence[Hits], seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Where 90 % of the differences, second minus first, lie when the images are drawn again with replacement.

    Both are judged on the same draws (Efron and Tibshirani 1993, the percentile interval), so that an image that is
    hard for both adds nothing. The upper end is a one-sided bound of 95 %: a loss is above a
    tolerance by more than chance where it lies below minus that.

    Args:
        first, second: of each class, of the same split.
    """
    images = len(first[0].objects) if first else 0
    if not images:
        return {}
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(images, np.full(images, 1 / images), size=_DRAWS)
    ours, theirs = resampled(first, draws), resampled(second, draws)
    intervals = {}
    for name in NAMES:
        differences = theirs[name] - ours[name]
        known = differences[np.isfinite(differences)]
        if known.size:
            low, high = np.quantile(known, (0.05, 0.95))
            intervals[name] = (float(low), float(high))
    return intervals


def resampled(classes: Sequence[Hits], weights: npt.NDArray[np.int64]) -> Mapping[str, npt.NDArray[np.float64]]:
    """AP, AP50, AP75 and AR100, [D] each, of D splits in which image i occurs ``weights[d, i]`` times.

    NaN for a split without any object.
    """
    shape = (len(weights), len(classes), _THRESHOLDS)
    ap, recall = np.zeros(shape), np.zeros(shape)
    objects = np.stack([weights @ hits.objects for hits in classes], axis=1)  # [D, classes]
    for k, hits in enumerate(track(classes, "draw images again", total=len(classes))):
        step = max(1, _MOST_VALUES // max(1, hits.image.size))
        for start in range(0, len(weights), step):
            part = slice(start, start + step)
            ap[part, k], recall[part, k] = _class_figures(hits, weights[part], objects[part, k])
    known = objects > 0  # a class without objects has no figures
    figures = (ap.mean(axis=2), ap[..., _AT_50], ap[..., _AT_75], recall.mean(axis=2))
    count = np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    return {name: (values * known).sum(axis=1) / count for name, values in zip(NAMES, figures, strict=True)}


def _class_figures(
    hits: Hits, weights: npt.NDArray[np.int64], objects: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """AP and recall [D, T] of one class; 0 where nothing is found."""
    times = weights[:, hits.image]  # [D, N]
    ap, recall = np.zeros((2, len(weights), _THRESHOLDS))
    for t in range(_THRESHOLDS):
        # Recall rises where an object is matched, and only there is a precision the highest at its recall or beyond.
        at = np.flatnonzero(hits.right[t] & hits.counted[t])
        if not at.size:
            continue
        right = np.cumsum(times[:, at], axis=1)
        wrong = np.cumsum(times * (~hits.right[t] & hits.counted[t]), axis=1)[:, at]
        precision = right / np.maximum(right + wrong, 1)
        highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = right / np.maximum(objects, 1)[:, None]
        # How many of COCO's recalls each match is the first to reach.
        share = np.diff(np.searchsorted(_RECALLS, reached, side="right"), axis=1, prepend=0)
        ap[:, t] = (highest * share).sum(axis=1) / len(_RECALLS)
        recall[:, t] = reached[:, -1]
    return ap, recall

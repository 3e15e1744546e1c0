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
_AT_50, _AT_75 = 0, 5  # of COCO's ten IoU thresholds


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
    tracked = track(draws, "draw images again", total=_DRAWS)
    pairs = [(resampled(first, weights), resampled(second, weights)) for weights in tracked]
    intervals = {}
    for name in NAMES:
        differences = np.array([theirs[name] - ours[name] for ours, theirs in pairs])
        known = differences[np.isfinite(differences)]
        if known.size:
            low, high = np.quantile(known, (0.05, 0.95))
            intervals[name] = (float(low), float(high))
    return intervals


def resampled(classes: Sequence[Hits], weights: npt.NDArray[np.int64]) -> Mapping[str, float]:
    """AP, AP50, AP75 and AR100 of a split in which image i occurs ``weights[i]`` times; NaN without any object."""
    precisions, recalls = [], []
    for hits in classes:
        objects = int(hits.objects @ weights)
        if not objects:
            continue
        times = weights[hits.image]
        right = np.cumsum(times * (hits.right & hits.counted), axis=1)  # [T, N]
        wrong = np.cumsum(times * (~hits.right & hits.counted), axis=1)
        recall = right / objects
        precision = right / np.maximum(right + wrong, 1)
        # Each precision is the highest at its recall or beyond.
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        found = np.concatenate((precision, np.zeros((len(precision), 1))), axis=1)
        precisions.append([found[t, np.searchsorted(recall[t], _RECALLS)].mean() for t in range(len(recall))])
        recalls.append(recall[:, -1] if recall.shape[1] else np.zeros(len(recall)))
    if not precisions:
        return dict.fromkeys(NAMES, float("nan"))
    ap = np.array(precisions)  # [classes, T]
    figures = (ap.mean(), ap[:, _AT_50].mean(), ap[:, _AT_75].mean(), np.mean(recalls))
    return dict(zip(NAMES, map(float, figures), strict=True))

"""Images that look alike: a perceptual hash finds candidates, a small image of each decides.

pHash as Zauner's thesis ("Implementation and Benchmarking of Perceptual Image Hash Functions", 2010) describes it: the
signs of the 64 lowest frequencies of a 32x32 grey image against their median. It is a few lines on OpenCV's cosine
transform; the usual library brings Pillow, SciPy and PyWavelets for it. By itself a hash of 64 bits calls images of one
scene equal (a fixed camera, cells on one ground): the small images must correlate as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

_SIDE, _LOW = 32, 8
_MOST_BITS = 10  # of 64 that may differ
_LEAST_CORRELATION = 0.95  # a hundredth cropped off: 0.97; other images of blood cells: below 0.9
_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Look:
    """``signs``: [64] float32, 1 or -1. ``small``: [1024] float32, mean 0 and length 1; all 0 for a flat image."""

    signs: npt.NDArray[np.float32]
    small: npt.NDArray[np.float32]


def look_of(image_rgb_u8: npt.NDArray[np.uint8]) -> Look:
    """What is compared of an image [H, W, 3]."""
    grey = cv2.cvtColor(image_rgb_u8, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:_LOW, :_LOW].ravel()
    signs = np.where(low > np.median(low[1:]), 1.0, -1.0).astype(np.float32)
    centred = small.ravel() - small.mean()
    length = float(np.linalg.norm(centred))
    # Less than one grey level of contrast is noise of the coding.
    return Look(signs, centred / length if length > _SIDE else np.zeros_like(centred))


def alike(looks: Sequence[Look]) -> Iterator[tuple[int, int, float]]:
    """Pairs (i, j), i < j, that are the same image or nearly so, and their correlation; flat images never are."""
    if not looks:
        return
    signs = np.stack([look.signs for look in looks])
    edges = [*range(0, len(looks), _BLOCK), len(looks)]
    for start, end in pairwise(edges):
        # Of +-1, the scalar product is 64 - 2 x (bits that differ).
        close = signs[start:end] @ signs[start:].T >= 64 - 2 * _MOST_BITS
        for row, column in np.argwhere(np.triu(close, k=1)).tolist():
            i, j = start + row, start + column
            correlation = float(looks[i].small @ looks[j].small)
            if correlation >= _LEAST_CORRELATION:
                yield i, j, correlation

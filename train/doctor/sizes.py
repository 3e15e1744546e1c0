"""Objects at the size of the network input, against the strides of the pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.images.preprocess import placement
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.records import Fault, Split
from aweigh.train.methods import Method
from aweigh.train.run.data import object_sizes

# An object of up to so many strides is drawn to the level's row of the table (ATSS and PAA: anchors of 8 strides).
_SIDE_STRIDES = 8


@dataclass(frozen=True)
class Pyramid:
    """Where a detector predicts: strides of its levels in pixels of the input, and the place of points in cells."""

    strides: tuple[int, ...]
    point_offset: float


def examine_sizes(split: Split, input_spec: InputSpec, pyramid: Pyramid) -> list[Fault]:
    """Objects too small for the finest level, and those that hold no point of a level that fits.

    Training's augmentation moves and scales images: what holds no point here may hold one now and then.
    """
    finest = min(pyramid.strides)
    cases = []
    for record in split.records:
        given = record.boxes_xyxy[record.targets]
        boxes = placement(record.size_hw, input_spec).map(given)
        sides = boxes[:, 2:] - boxes[:, :2]
        points = has_point(boxes, pyramid)
        for i in np.flatnonzero((sides.min(axis=1, initial=np.inf) < finest) | ~points).tolist():
            width, height = sides[i].tolist()
            label = split.categories[int(record.labels[record.targets][i])].name
            detail = f"{label}: {width:.1f}x{height:.1f} px in the input, the finest stride is {finest}"
            marked = (tuple(given[i].astype(float).tolist()),)
            cases.append(Fault("too-small" if points[i] else "no-level", record.path.name, detail, record.path, marked))
    return cases


def examine_fit(split: Split, input_spec: InputSpec, method: Method, strides: tuple[int, ...]) -> list[Fault]:
    """Objects whose size the method hardly learns."""
    cases = []
    for record in split.records:
        given = record.boxes_xyxy[record.targets]
        boxes = placement(record.size_hw, input_spec).map(given)
        sides = boxes[:, 2:] - boxes[:, :2]
        for i in np.flatnonzero(method.unsuited(sides, strides)).tolist():
            width, height = sides[i].tolist()
            label = split.categories[int(record.labels[record.targets][i])].name
            detail = f"{label}: {width:.1f}x{height:.1f} px in the input, method {method.name}"
            marked = (tuple(given[i].astype(float).tolist()),)
            cases.append(Fault("unsuited", record.path.name, detail, record.path, marked))
    return cases


def has_point(boxes_xyxy: npt.NDArray[np.floating[Any]], pyramid: Pyramid) -> npt.NDArray[np.bool_]:
    """[N] whether a level that fits has a point strictly inside the box [N, 4], pixels of the network input.

    The finest level fits any object, a coarser one those whose longer side is its stride or more: where the point of a
    cell of 128 px falls on an object of 8 px, that is chance.
    """
    boxes = boxes_xyxy.astype(np.float64)
    holds = np.zeros(len(boxes), np.bool_)
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0.0)
    for stride in pyramid.strides:
        fits = (longer >= stride) | (stride == min(pyramid.strides))
        cells = boxes / stride - pyramid.point_offset  # point i lies at i
        columns = np.ceil(cells[:, 2]) - np.floor(cells[:, 0]) - 1
        rows = np.ceil(cells[:, 3]) - np.floor(cells[:, 1]) - 1
        holds |= fits & (columns >= 1) & (rows >= 1)
    return holds


@dataclass(frozen=True)
class LevelCount:
    """Objects of one level: those whose longer side is at most ``up_to_px`` (None for the last) and above the last."""

    stride: int
    up_to_px: int | None
    objects: int


@dataclass(frozen=True)
class SizeTable:
    """How large the objects of a split are at the size of the network input.

    Attributes:
        longer_side_px: quantiles 0, 10, 50, 90 and 100 % of the longer side; empty without objects.
        levels: from the finest.
    """

    longer_side_px: tuple[float, ...]
    levels: tuple[LevelCount, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"longer_side_px": list(self.longer_side_px), "levels": [asdict(level) for level in self.levels]}


def size_table(split: Split, input_spec: InputSpec, pyramid: Pyramid) -> SizeTable:
    """Sizes of the objects to train on, in pixels of the network input."""
    longer = object_sizes(split, input_spec).max(axis=1, initial=0.0)
    limits = [stride * _SIDE_STRIDES for stride in pyramid.strides[:-1]]
    counts = np.bincount(np.searchsorted(limits, longer), minlength=len(pyramid.strides)).tolist()
    uppers: Sequence[int | None] = [*limits, None]
    quantiles = np.quantile(longer, [0, 0.1, 0.5, 0.9, 1]).tolist() if len(longer) else []
    return SizeTable(
        tuple(round(quantile, 1) for quantile in quantiles),
        tuple(LevelCount(*level) for level in zip(pyramid.strides, uppers, counts, strict=True)),
    )

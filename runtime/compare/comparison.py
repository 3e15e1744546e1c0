"""Compare the detections of two exported files on the same images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aweigh.runtime.agreement.match import (
    SAME_OBJECT_IOU,
    Match,
    Pairing,
    ScoredBoxes,
    lowest_reported,
    pair_detections,
)
from aweigh.runtime.agreement.tolerances import Tolerances, tolerances_for
from aweigh.runtime.compare.floor import Floor, asked_of, floor_of
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import placement
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.precision import PRECISIONS
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.spec import ModelSpec

# What is counted for each class.
CLASS_COUNTS = ("a", "b", "lost", "new", "relabelled", "moved")


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image with its ground truth.

    Attributes:
        boxes_xyxy: [N, 4] float32 pixels of the image.
        names: N names of their classes.
    """

    path: Path
    boxes_xyxy: npt.NDArray[np.float32]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Judged:
    """How many objects of the ground truth one model detected, and how many of its detections are false."""

    found: int
    false: int


@dataclass(frozen=True, eq=False)
class ImageDifference:
    """One image: the detections of both files, and which row of one matches which of the other.

    Attributes:
        a, b: detections above the threshold compared at.
        judged: a and b against the ground truth; None without one.
        objects: in the ground truth.
    """

    path: Path
    a: Detections
    b: Detections
    pairing: Pairing
    judged: tuple[Judged, Judged] | None = None
    objects: int = 0

    @property
    def rescored(self) -> int:
        """Pairs at the same place under the same label with another score."""
        return self.pairing.match.rescored

    @property
    def severity(self) -> tuple[int, int, float, float]:
        """Sorts the worst last: few scores may be beyond their limit, more detections may differ."""
        match = self.pairing.match
        return self.rescored, match.differing, match.max_score_error, match.max_moved_px


@dataclass
class Comparison:
    """Two files on the same images.

    Attributes:
        conf: only scores above it were compared: what was asked for, else the higher of the two files' thresholds. By
            name of the class where each had its best.
        same_iou: above it two boxes are of one object.
        replaced: default of each tolerance that was overridden.
    """

    conf: Floor
    same_iou: float
    tolerances: Tolerances
    replaced: Mapping[str, float]
    images: list[ImageDifference] = field(default_factory=list)

    @property
    def match(self) -> Match:
        return sum((p.pairing.match for p in self.images), Match())

    @property
    def verdict(self) -> Literal["same", "different"]:
        """Same: no more detections differ than the share allows, nor more scores than one of a hundred."""
        match = self.match
        few = match.differing <= match.allowed(self.tolerances.share)
        return "same" if few and match.rescored <= match.allowed_rescored else "different"

    @property
    def worst(self) -> list[ImageDifference]:
        """The images with any difference beyond a tolerance, worst first."""
        return sorted((p for p in self.images if p.severity[:2] > (0, 0)), key=lambda p: p.severity, reverse=True)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without the two files' own facts."""
        match = self.match
        pairs = [pair for p in self.images for pair in p.pairing.pairs]
        shifts = np.array([pair.score_shift for pair in pairs if pair.same_label])
        return {
            "verdict": self.verdict,
            "pictures": len(self.images),
            "pictures_differing": len(self.worst),
            "conf": dict(self.conf) if isinstance(self.conf, Mapping) else self.conf,
            "iou": self.same_iou,
            "detections": {side: sum(len(getattr(p, side)) for p in self.images) for side in ("a", "b")},
            "match": asdict(match),
            "differing": match.differing,
            "allowed": match.allowed(self.tolerances.share),
            "rescored": match.rescored,
            "rescored_allowed": match.allowed_rescored,
            "moved_px": _quantiles([pair.shift_px for pair in pairs], (0.5, 0.99, 1.0)),
            "pair_iou": _quantiles([pair.iou for pair in pairs], (0.0, 0.01, 0.5)),
            "score_shift": {
                "mean": float(shifts.mean()) if len(shifts) else None,
                **{
                    f"abs_{name}": value
                    for name, value in _quantiles(np.abs(shifts).tolist(), (0.5, 0.99, 1.0)).items()
                },
            },
            "by_class": _by_class(self.images),
            "truth": _truth(self.images),
            "tolerances": {name: getattr(self.tolerances, name) for name in ("share", "score", "moved_px")},
            "tolerances_overridden": {name: {"default": value} for name, value in self.replaced.items()},
            "worst": [{"file": str(p.path), **asdict(p.pairing.match), "rescored": p.rescored} for p in self.worst],
        }


def compare_models(
    a: Detector,
    b: Detector,
    images: Sequence[Path | LabelledImage],
    conf: float | Literal["best"] | None = None,
    same_iou: float = SAME_OBJECT_IOU,
    tolerances: Mapping[str, float] | None = None,
    on_image: Callable[[ImageDifference], None] = lambda difference: None,
) -> Comparison:
    """Detect with two files in the same images and pair their detections.

    Classes go by their names, so that files whose category ids differ can be compared.

    Args:
        a: an open file, whose detections are expected.
        b: the open file that is compared with it.
        images: image files, with or without their known objects.
        conf: compare scores strictly above it, 0 to 1; by default the higher of the two files' thresholds, so that no
            detection is missing only because of the other's threshold. ``best``: above each class's best threshold, the
            higher of the two files' (their own threshold where they have no best one).
        same_iou: two boxes are of one object above it, 0 to below 1.
        tolerances: replace those of the lower of the two precisions, by which receipts are judged: ``share``, ``score``
            and ``moved_px``, in pixels of the finer of the two network inputs.
        on_image: called after each image.

    Raises:
        BadInput: an image that cannot be read, ``conf`` below a file's threshold, ``best`` of a file without best
            thresholds, a tolerance below 0, or no class in common.

    Example:
        >>> from aweigh.runtime import Detector
        >>> with Detector(model_path) as a, Detector(model_path) as b:
        ...     comparison = compare_models(a, b, [image_path])
        >>> comparison.verdict, comparison.match.lost, len(comparison.worst)
        ('same', 0, 0)
    """
    if not 0 <= same_iou < 1:
        raise BadInput(f"--iou {same_iou}: expected a number from 0 to below 1")
    shared = set(a.names.values()) & set(b.names.values())
    if not shared:
        raise BadInput(f"no class in common: {sorted(a.names.values())} and {sorted(b.names.values())}")
    precision = min(a.spec.precision, b.spec.precision, key=PRECISIONS.index)
    limits, replaced = tolerances_for(precision, tolerances or {})
    floor = floor_of(a.spec, b.spec, conf)
    result = Comparison(floor, same_iou, limits, replaced)
    for source in images:
        labelled = source if isinstance(source, LabelledImage) else None
        path = labelled.path if labelled else Path(str(source))
        image = read_image(path)
        found_a, found_b = (
            detector(image, asked_of(detector.spec, conf, floor)).from_source(str(path), None, {})
            for detector in (a, b)
        )
        finest = max(_network_px(spec, found_a.orig_shape) for spec in (a.spec, b.spec))
        numbers = _numbers(found_a, found_b)
        rows_a, rows_b = (_rows(found, numbers) for found in (found_a, found_b))
        lowest = max(lowest_reported(r.scores, d.spec.post) for r, d in ((rows_a, a), (rows_b, b)))
        borderline = {
            number: max(floor[name] if isinstance(floor, Mapping) else floor, lowest) + limits.score
            for name, number in numbers.items()
        }
        pairing = pair_detections(rows_a, rows_b, limits.moved_px / finest, borderline, same_iou, limits.score)
        judged = None
        if labelled is not None:
            judged = _judge(found_a, labelled, same_iou), _judge(found_b, labelled, same_iou)
        objects = len(labelled.names) if labelled else 0
        result.images.append(ImageDifference(path, found_a, found_b, pairing, judged, objects))
        on_image(result.images[-1])
    return result


def _network_px(spec: ModelSpec, image_hw: tuple[int, int]) -> float:
    """Network pixels per pixel of the image, along the side where there are more of them."""
    return max(placement(image_hw, spec.input).scale_xy)


def _numbers(*sides: Detections) -> dict[str, int]:
    """A number for each name of a class."""
    names = sorted({name for detections in sides for name in detections.names.values()})
    return {name: i for i, name in enumerate(names)}


def _rows(detections: Detections, numbers: Mapping[str, int]) -> ScoredBoxes:
    labels = np.array([numbers[detections.names[i]] for i in detections.cls.tolist()], np.int64)
    return ScoredBoxes(detections.xyxy, detections.conf, labels)


def _judge(detections: Detections, truth: LabelledImage, same_iou: float) -> Judged:
    """Objects against the detections of their class, the best sum of overlap and score first."""
    numbers = {name: i for i, name in enumerate(sorted({*detections.names.values(), *truth.names}))}
    labels = np.array([numbers[name] for name in truth.names], np.int64)
    objects = ScoredBoxes(truth.boxes_xyxy, np.ones(len(labels), np.float32), labels)
    pairing = pair_detections(objects, _rows(detections, numbers), 0.0, 0.0, same_iou)
    hits = sum(pair.same_label for pair in pairing.pairs)
    return Judged(hits, len(detections) - hits)


def _by_class(images: Iterable[ImageDifference]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}

    def count(detections: Detections, row: int, *what: str) -> None:
        counts.setdefault(detections.names[int(detections.cls[row])], Counter()).update(what)

    for p in images:
        for side, detections in (("a", p.a), ("b", p.b)):
            for row in range(len(detections)):
                count(detections, row, side)
        for row in p.pairing.lost:
            count(p.a, row, "lost")
        for row in p.pairing.new:
            count(p.b, row, "new")
        for pair in p.pairing.pairs:
            what = [name for name, holds in (("relabelled", not pair.same_label), ("moved", pair.moved)) if holds]
            count(p.a, pair.first, *what)
    return {name: {kind: counts[name][kind] for kind in CLASS_COUNTS} for name in sorted(counts)}


def _truth(images: Sequence[ImageDifference]) -> dict[str, Any] | None:
    judged = [p.judged for p in images if p.judged is not None]
    if not judged:
        return None
    sums = {
        side: Judged(sum(j[i].found for j in judged), sum(j[i].false for j in judged)) for i, side in enumerate("ab")
    }
    return {"objects": sum(p.objects for p in images), **{side: asdict(value) for side, value in sums.items()}}


def _quantiles(values: Sequence[float], at: Sequence[float]) -> dict[str, float | None]:
    names = {0.0: "min", 0.01: "p1", 0.5: "median", 0.99: "p99", 1.0: "max"}
    if len(values) == 0:
        return dict.fromkeys((names[q] for q in at), None)
    return {names[q]: float(value) for q, value in zip(at, np.quantile(np.asarray(values), at), strict=True)}

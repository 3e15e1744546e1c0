"""Two models on the same prepared images: tensors between the stages, and detections."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aweigh.export.graph.traced import STAGE_PREFIX
from aweigh.export.proof.post import outputs_of_points
from aweigh.export.proof.rounding import Rounding, widest_of
from aweigh.export.proof.sides import Side
from aweigh.runtime.agreement.match import Match, Pairing, ScoredBoxes, lowest_reported, pair_detections
from aweigh.runtime.agreement.tolerances import TOLERANCES, Tolerances
from aweigh.runtime.files.golden import Golden
from aweigh.runtime.network import Outputs
from aweigh.runtime.spec import PostSpec
from aweigh.train.process.console import track


@dataclass(frozen=True)
class StageError:
    """One tensor on the way: largest absolute error, the same relative to the largest value, all values finite."""

    stage: str
    max_abs: float
    max_rel: float
    finite: bool

    def joined(self, other: StageError) -> StageError:
        return StageError(
            self.stage,
            max(self.max_abs, other.max_abs),
            max(self.max_rel, other.max_rel),
            self.finite and other.finite,
        )


class Severity(NamedTuple):
    """How far an image differs; sorts the worst last. All is 0 where it is within every tolerance.

    Attributes:
        differing: detections that differ, of both ``match`` and ``post``; rescored: likewise.
        tensors: the largest error of a tensor as a multiple of its tolerance, where that is above 1.
        moved_px: the farthest move, where detections differ.
    """

    differing: int = 0
    rescored: int = 0
    tensors: float = 0.0
    moved_px: float = 0.0

    def joined(self, other: Severity) -> Severity:
        return Severity(
            max(self.differing, other.differing),
            max(self.rescored, other.rescored),
            max(self.tensors, other.tensors),
            max(self.moved_px, other.moved_px),
        )


@dataclass(frozen=True)
class StageErrors:
    """Differences at one batch size and input size.

    Attributes:
        severity: of each image.
        match: of the detections; None for a raw file.
        post: of the detections that the file makes of its own points, with ours of the same points; None where the
            file does not show them.
        rounding: what rounding alone does to the trained model on these images; None where limits are fixed.
    """

    batch: int
    size_hw: tuple[int, int]
    images: int
    stages: tuple[StageError, ...]
    match: Match | None
    post: Match | None = None
    severity: tuple[Severity, ...] = ()
    rounding: Rounding | None = None

    def limit_of(self, stage: str, tolerances: Tolerances) -> float:
        """How far a tensor may be from the trained model's, relative to its largest value."""
        limit = tolerances.of_stage(stage)
        return limit if self.rounding is None else self.rounding.stage_limit(stage, limit)


def compare(
    reference: Side,
    subject: Side,
    images: Sequence[Golden],
    batch: int,
    tolerances: Tolerances,
    post_tolerances: Tolerances = TOLERANCES["fp32"],
    twin: Side | None = None,
    given: Collection[str] = (),
) -> StageErrors:
    """Run all images through both in batches of exactly ``batch``; the last is filled up with the first images.

    Args:
        post_tolerances: for what post-processing makes of the same points.
        twin: the reference, rounded as the subject is; None where limits are fixed.
        given: the tolerances that were given by hand, which the twin does not widen.
    """
    stages: dict[str, StageError] = {}
    of_twin: dict[str, float] = {}
    match: Match | None = None
    post: Match | None = None
    twin_match: Match | None = None
    errors: dict[str, npt.NDArray[np.float64]] = {}  # stage: [images], relative
    severity = [Severity()] * len(images)
    height, width = images[0].image_u8.shape[:2]
    note, steps = f"compare at {width}x{height}, batch {batch}", -(-len(images) // batch)
    for step, images_u8 in enumerate(track(_batches(images, batch), note, total=steps)):
        ours, theirs = reference.with_stages(images_u8), subject.with_stages(images_u8)
        rounded = {} if twin is None else twin.with_stages(images_u8)
        drawn = [(step * batch + row) % len(images) for row in range(batch)]
        for name in _order(ours, theirs):
            stage = name.removeprefix(STAGE_PREFIX)
            error = stage_error(stage, ours[name], theirs[name])
            stages[name] = stages[name].joined(error) if name in stages else error
            worst = errors.setdefault(stage, np.zeros(len(images)))
            np.maximum.at(worst, drawn, _relative(ours[name], theirs[name]))
            if name in rounded:
                explained = stage_error(stage, ours[name], rounded[name]).max_rel
                of_twin[stage] = max(of_twin.get(stage, 0.0), explained)
        matches = [Match()] * batch
        if "num_dets" in ours:
            own = _matches(ours, theirs, subject.spec.post, tolerances)
            match, matches = _joined(match, own), own
            if rounded:
                twin_match = _joined(twin_match, _matches(ours, rounded, subject.spec.post, tolerances))
            of_points = outputs_of_points(theirs, subject.spec.post, (height, width))
            if of_points is not None:
                more = _matches(*of_points, subject.spec.post, post_tolerances)
                post, matches = _joined(post, more), [one + other for one, other in zip(own, more, strict=True)]
        for image, found in zip(drawn, matches, strict=True):
            severity[image] = severity[image].joined(_severity(found))
    rounding = None
    if twin is not None:
        rounding = Rounding(of_twin, twin_match, widest_of(subject)).held_to(given)
    result = StageErrors(
        batch, (height, width), len(images), tuple(stages.values()), match, post, tuple(severity), rounding
    )
    return replace(result, severity=_with_tensors(result, errors, tolerances))


def pairing_of(ours: ScoredBoxes, theirs: ScoredBoxes, post: PostSpec, tolerances: Tolerances) -> Pairing:
    """The detections of one image from both sides, paired within the tolerances."""
    floor = max(lowest_reported(side.scores, post) for side in (ours, theirs))
    return pair_detections(ours, theirs, tolerances.moved_px, floor + tolerances.score, score_limit=tolerances.score)


def _matches(ours: Outputs, theirs: Outputs, post: PostSpec, tolerances: Tolerances) -> list[Match]:
    """Of each image of a batch."""
    pairs = ((rows(ours, row), rows(theirs, row)) for row in range(len(ours["num_dets"])))
    return [pairing_of(first, second, post, tolerances).match for first, second in pairs]


def _joined(match: Match | None, more: Sequence[Match]) -> Match:
    return sum(more, match or Match())


def _severity(match: Match) -> Severity:
    """Of the detections of an image."""
    return Severity(match.differing, match.rescored, moved_px=match.max_moved_px if match.differing else 0.0)


def _with_tensors(
    run: StageErrors, errors: Mapping[str, npt.NDArray[np.float64]], tolerances: Tolerances
) -> tuple[Severity, ...]:
    """The severity of each image, with that of its tensors, whose [images] relative errors are given by stage."""
    beyond = np.zeros(run.images)
    for stage, of_images in errors.items():
        beyond = np.maximum(beyond, of_images / max(run.limit_of(stage, tolerances), 1e-12))
    rows = zip(run.severity, beyond.tolist(), strict=True)
    return tuple(severity._replace(tensors=times if times > 1 else 0.0) for severity, times in rows)


def rows(outputs: Outputs, image: int) -> ScoredBoxes:
    """The detections of one image, without the padding."""
    count = int(outputs["num_dets"][image])
    return ScoredBoxes(*(outputs[name][image, :count] for name in ("boxes", "scores", "labels")))


def stage_error(stage: str, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> StageError:
    """``ours`` is the trained model's. Another shape, NaN and infinity in either are an infinite error."""
    finite = bool(np.isfinite(theirs).all() and np.isfinite(ours).all())
    error = float(_by_image(ours, theirs).max(initial=0.0))
    return StageError(stage, error, error / _largest(ours), finite)


def _relative(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """[B] error of each image, relative to the largest value of all."""
    return _by_image(ours, theirs) / _largest(ours)


def _by_image(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """[B] largest absolute error of each image."""
    if ours.shape != theirs.shape:
        return np.full(len(ours), np.inf)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        errors = np.abs(ours.astype(np.float64) - theirs).reshape(len(ours), -1).max(axis=1, initial=0.0)
    return np.where(np.isfinite(errors), errors, np.inf)


def _largest(ours: npt.NDArray[Any]) -> float:
    return max(float(np.abs(ours[np.isfinite(ours)]).max(initial=0.0)), 1e-12)


def _order(ours: Outputs, theirs: Outputs) -> list[str]:
    """The float tensors both have, in the order of the network; of detections those are matched instead."""
    names = [n for n in ours if n.startswith(STAGE_PREFIX)]
    if "num_dets" not in ours:
        names += ["boxes", "scores"]
    return [n for n in names if n in theirs]


def _batches(images: Sequence[Golden], batch: int) -> Iterator[npt.NDArray[np.uint8]]:
    for start in range(0, len(images), batch):
        chosen = [images[i % len(images)].image_u8 for i in range(start, start + batch)]
        yield np.stack(chosen)

"""Two models on the same prepared images: tensors between the stages, and detections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.export.graph.traced import STAGE_PREFIX
from aweigh.export.proof.post import outputs_of_points
from aweigh.export.proof.sides import Side
from aweigh.runtime.agreement.match import Match, ScoredBoxes, lowest_reported, match_detections
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


@dataclass(frozen=True)
class StageErrors:
    """Differences at one batch size and input size.

    Attributes:
        match: of the detections; None for a raw file.
        post: of the detections that the file makes of its own points, with ours of the same points; None where the
            file does not show them.
    """

    batch: int
    size_hw: tuple[int, int]
    images: int
    stages: tuple[StageError, ...]
    match: Match | None
    post: Match | None = None


def compare(
    reference: Side,
    subject: Side,
    images: Sequence[Golden],
    batch: int,
    tolerances: Tolerances,
    post_tolerances: Tolerances = TOLERANCES["fp32"],
) -> StageErrors:
    """Run all images through both in batches of exactly ``batch``; the last is filled up with the first images.

    ``post_tolerances`` are for what post-processing makes of the same points.
    """
    stages: dict[str, StageError] = {}
    match: Match | None = None
    post: Match | None = None
    height, width = images[0].image_u8.shape[:2]
    note, steps = f"compare at {width}x{height}, batch {batch}", -(-len(images) // batch)
    for images_u8 in track(_batches(images, batch), note, total=steps):
        ours, theirs = reference.with_stages(images_u8), subject.with_stages(images_u8)
        for name in _order(ours, theirs):
            error = stage_error(name.removeprefix(STAGE_PREFIX), ours[name], theirs[name])
            stages[name] = stages[name].joined(error) if name in stages else error
        if "num_dets" in ours:
            match = _joined(match, _match(ours, theirs, subject.spec.post, tolerances))
            of_points = outputs_of_points(theirs, subject.spec.post, (height, width))
            if of_points is not None:
                post = _joined(post, _match(*of_points, subject.spec.post, post_tolerances))
    return StageErrors(batch, (height, width), len(images), tuple(stages.values()), match, post)


def _match(ours: Outputs, theirs: Outputs, post: PostSpec, tolerances: Tolerances) -> Match:
    """Of all images of a batch."""
    match = Match()
    for row in range(len(ours["num_dets"])):
        first, second = rows(ours, row), rows(theirs, row)
        floor = max(lowest_reported(side.scores, post) for side in (first, second))
        match += match_detections(first, second, tolerances.moved_px, floor + tolerances.score, tolerances.score)
    return match


def _joined(match: Match | None, more: Match) -> Match:
    return more if match is None else match + more


def rows(outputs: Outputs, image: int) -> ScoredBoxes:
    """The detections of one image, without the padding."""
    count = int(outputs["num_dets"][image])
    return ScoredBoxes(*(outputs[name][image, :count] for name in ("boxes", "scores", "labels")))


def stage_error(stage: str, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> StageError:
    """``ours`` is the trained model's. Another shape, NaN and infinity in either are an infinite error."""
    finite = bool(np.isfinite(theirs).all() and np.isfinite(ours).all())
    if ours.shape != theirs.shape:
        return StageError(stage, float("inf"), float("inf"), finite)
    largest = float(np.abs(ours).max(initial=0.0))
    error = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0)) if finite else float("inf")
    return StageError(stage, error, error / max(largest, 1e-12), finite)


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

"""PredictPlan: what to detect in and what to write; PredictEvents: whom to call; PredictResult: what was done."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.confidence import ConfArgument
from aweigh.runtime.flow.failure import Failure
from aweigh.runtime.predict.side_files import Labels
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.video.reading import FrameLimits

RESULTS_NAME = "detections.json"
FAILURES_NAME = "failures.json"


@dataclass(frozen=True)
class PredictPlan:
    """What to detect in, and which files to write.

    Attributes:
        sources: image and video files, folders, glob patterns, addresses such as ``rtsp://...``, and numbers of cameras
            (digits, unless a file has that name).
        conf: as for ``Detector``; None takes the file's own threshold, and draws as ``Detections.drawn_above`` says.
        out: folder for the images and videos with boxes, under their own names and subfolders, for ``detections.json``
            and for ``failures.json``; None writes none of them.
        labels: whether ``out`` gets a YOLO label file for each image, in ``labels/``, and whether the label files hold
            the confidence: ``none``, ``plain`` or ``conf``.
        image_ids: name of an image to its id (``results.files.read_image_ids``), for a COCO results file in ``out``;
            None writes none.
        stop_on_error: raise at the first image or video that cannot be read, instead of going on without it. No results
            are written then, but the images with boxes before it are.
        results: file for the entries (``Detections.to_dict``), a JSON array with a line each, in place of
            ``detections.json`` in ``out``.
        failures: file for what could not be read, a JSON array of ``{"file", "error"}``, in place of ``failures.json``
            in ``out``.
        limits: how much of each video and live source is read.

    Raises:
        BadInput: ``sources`` is a single text.

    Example:
        >>> plan = PredictPlan(["images/", "rtsp://camera/street"], conf=0.4, out=Path("detected"))
        >>> plan.results_path.as_posix()
        'detected/detections.json'
    """

    sources: Sequence[str | os.PathLike[str]]
    conf: ConfArgument | None = None
    out: Path | None = None
    labels: Labels = "none"
    image_ids: Mapping[str, int | str] | None = None
    stop_on_error: bool = False
    results: Path | None = None
    failures: Path | None = None
    limits: FrameLimits = field(default_factory=FrameLimits)

    def __post_init__(self) -> None:
        if isinstance(self.sources, str | os.PathLike):
            raise BadInput(f"sources {str(self.sources)!r}: expected a list of sources, for example [{self.sources!r}]")

    @property
    def results_path(self) -> Path | None:
        """Where the entries go; None where they are not written."""
        return self.results or (None if self.out is None else self.out / RESULTS_NAME)

    @property
    def failures_path(self) -> Path | None:
        """Where the failures go; None where they are not written."""
        return self.failures or (None if self.out is None else self.out / FAILURES_NAME)


@dataclass(frozen=True)
class PredictEvents:
    """Functions that are called while detection goes on.

    Attributes:
        on_total: called once, before the first image, with the number of images and frames; None where it is unknown.
        on_result: called with each result, in order.
        on_failure: called with each failure, in its place.
        should_stop: asked after each result; where it returns true, the results so far are completed and returned.

    Example:
        >>> from aweigh.runtime import Detector, predict_sources
        >>> events = PredictEvents(on_result=lambda detections: print(detections.summary()))
        >>> with Detector(model_path) as detector:
        ...     result = predict_sources(detector, PredictPlan([image_path]), events)
        1 whole, 1 left half
    """

    on_total: Callable[[int | None], None] = lambda total: None
    on_result: Callable[[Detections], None] = lambda detections: None
    on_failure: Callable[[Failure], None] = lambda failure: None
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class PredictResult:
    """What ``predict_sources`` did.

    Attributes:
        sources: how many files, cameras and addresses there were.
        noun: what to call them: ``images``, or ``images or videos``.
        count: images and frames detected in.
        failures: images and videos that could not be read, or not to their end.
        saved: the images and videos written.
    """

    sources: int
    noun: str
    count: int
    failures: tuple[Failure, ...]
    saved: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "sources": self.sources,
            "count": self.count,
            "failures": [failure.to_dict() for failure in self.failures],
            "saved": [str(path) for path in self.saved],
        }

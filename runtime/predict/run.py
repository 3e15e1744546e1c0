"""Detect in many images and videos; write the results, the images with boxes, and a list of what cannot be read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.failure import Failure
from aweigh.runtime.flow.finder import Finder
from aweigh.runtime.flow.sources import is_live, is_video
from aweigh.runtime.json_text import json_text
from aweigh.runtime.predict.annotated import AnnotatedWriter
from aweigh.runtime.predict.inputs import find_inputs, measure_inputs, output_paths
from aweigh.runtime.predict.plan import PredictEvents, PredictPlan, PredictResult
from aweigh.runtime.predict.side_files import SideFiles
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.results.json_array import json_array


def predict_sources(finder: Finder, plan: PredictPlan, events: PredictEvents | None = None) -> PredictResult:
    """Detect in files, folders, glob patterns, videos, cameras and network streams.

    Nothing that grows with the number of results is kept in memory. A live source that ends by itself is a failure, and
    the results before it are kept.

    Args:
        finder: an open ``Detector``, or ``Sliced`` or ``Augmented`` around one.
        plan: what to detect in and what to write.
        events: functions to call meanwhile.

    Raises:
        BadInput: nothing to read, ``conf`` out of range, ``out`` would overwrite the sources or is missing where it is
            needed, an image without an id, labels or ids for a video, or, with ``stop_on_error``, an image or video
            that cannot be read.
        CannotRun: a video cannot be written.
        OSError: a file cannot be written.

    Example:
        >>> from aweigh.runtime import Detector
        >>> with Detector(model_path) as detector:
        ...     result = predict_sources(detector, PredictPlan([folder], out=tmp_path / "out"))
        >>> result.count, len(result.saved), result.failures
        (3, 3, ())
        >>> (tmp_path / "out" / "detections.json").is_file()
        True
    """
    events = events or PredictEvents()
    inputs = find_inputs(plan.sources)
    targets = output_paths(inputs, plan.out) if plan.out is not None else {}
    side_files = SideFiles(inputs, targets, plan.out, plan.labels, plan.image_ids)
    fps, total = measure_inputs(inputs, plan.limits)
    events.on_total(total)
    live = any(is_live(source) for source in inputs)
    failures: list[Failure] = []

    def fail(failure: Failure) -> None:
        if not plan.stop_on_error or live:
            failures.append(failure)
            events.on_failure(failure)
        if plan.stop_on_error:
            raise failure.error

    count = 0
    with contextlib.ExitStack() as stack:
        # Left in reverse order: an error in writing the last video keeps the files before it from appearing.
        uses: list[Callable[[Detections], None]] = []
        if plan.results_path is not None:
            append = stack.enter_context(json_array(plan.results_path))
            uses.append(lambda detections: append(detections.to_dict()))
        stack.enter_context(side_files)
        writer = stack.enter_context(AnnotatedWriter(targets, fps)) if plan.out is not None else None
        if writer is not None:
            uses.append(writer.add)
        uses += [side_files.add, events.on_result]
        stream = stack.enter_context(contextlib.closing(_stream(finder, inputs, plan, fail, writer is not None)))
        try:
            for detections in stream:
                count += 1
                for use in uses:
                    use(detections)
                if events.should_stop():
                    break
        except BadInput:
            if not failures:  # else a live source has ended: the results before that are kept
                raise
    if plan.failures_path is not None:
        _write_failures(failures, plan.failures_path)
    noun = "images or videos" if live or any(is_video(source) for source in inputs) else "images"
    saved = () if writer is None else tuple(writer.saved)
    return PredictResult(len(inputs), noun, count, tuple(failures), saved)


def _stream(
    finder: Finder,
    inputs: Sequence[Path | str | int],
    plan: PredictPlan,
    on_failure: Callable[[Failure], None],
    keep_images: bool,
) -> Generator[Detections, None, None]:
    return finder.stream(
        inputs,
        plan.conf,
        on_error=on_failure,
        keep_images=keep_images,
        max_frames=plan.limits.frames,
        max_seconds=plan.limits.seconds,
        every_frame=plan.limits.every_frame,
    )


def _write_failures(failures: Sequence[Failure], path: Path) -> None:
    text = json_text([failure.to_dict() for failure in failures], indent=1)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")

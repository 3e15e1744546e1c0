"""Detect in many pictures and videos: results in order, with boxes drawn beside a detections.json, failures apart."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.confidence import ConfArgument
from aweigh.runtime.flow.failure import Failure
from aweigh.runtime.flow.finder import Finder
from aweigh.runtime.flow.sources import is_address, is_live, is_video, named_source, source_name
from aweigh.runtime.images.drawing import WRITABLE
from aweigh.runtime.images.reading import list_images
from aweigh.runtime.predict.annotated import AnnotatedWriter
from aweigh.runtime.predict.side_files import Labels, SideFiles
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.results.json_array import json_array
from aweigh.runtime.video.reading import FrameLimits, video_facts

RESULTS_NAME = "detections.json"
FAILURES_NAME = "failures.json"


@dataclass
class Predictions:
    """What ``predict`` did.

    Attributes:
        sources: how many files, cameras and addresses there were.
        noun: what to call them: ``pictures``, or ``pictures or videos``.
        count: pictures and frames detected in.
        failures: pictures and videos that could not be read, or not to their end.
        saved: the pictures and videos written.
    """

    sources: int
    noun: str
    count: int = 0
    failures: list[Failure] = field(default_factory=list)
    saved: list[Path] = field(default_factory=list)


def predict(
    detector: Finder,
    sources: Iterable[str],
    conf: ConfArgument | None = None,
    out: Path | None = None,
    labels: Labels = "none",
    image_ids: Mapping[str, int | str] | None = None,
    stop_on_error: bool = False,
    *,
    results: Path | None = None,
    failures: Path | None = None,
    limits: FrameLimits | None = None,
    stop: threading.Event | None = None,
    on_result: Callable[[Detections], None] = lambda found: None,
    on_failure: Callable[[Failure], None] = lambda failure: None,
    on_total: Callable[[int | None], None] = lambda total: None,
) -> Predictions:
    """Detect in files, folders, glob patterns, videos, cameras and network streams.

    Nothing that grows with the number of results is kept in memory. A live source that ends by itself is a failure, and
    never takes the results before it away.

    Args:
        detector: an open one, or what wraps one.
        sources: paths, patterns, addresses; digits are the number of a camera unless a file has that name.
        conf: as for ``Detector``.
        out: folder for the pictures and videos with boxes, under their own names and subfolders, for
            ``detections.json`` and for ``failures.json``; None writes none of them.
        labels: whether ``out`` gets YOLO's label files too, one for each picture in ``labels/``, and whether they hold
            the confidence.
        image_ids: name of a picture to its id (``results.read_image_ids``): ``out`` gets a COCO results file too.
        stop_on_error: raise at the first unreadable picture or video instead of going on without it; no results are
            written then, but the pictures before it are.
        results: a file for the entries (``Detections.to_dict``), a JSON array with a line each, instead of
            ``detections.json``.
        failures: a file for what could not be read, a JSON array of ``{"file", "error"}``, empty where all could,
            instead of ``failures.json``.
        limits: of videos and live sources.
        stop: once it is set, the results so far are completed and returned.
        on_result: given each result in order.
        on_failure: given each failure in its place.
        on_total: told the number of pictures and frames before the first; None where it cannot be known.

    Raises:
        BadInput: nothing to read, ``conf`` out of range, ``out`` would overwrite the sources or is missing where it is
            needed, a picture without an id, labels or ids for a video, or, with ``stop_on_error``, an unreadable
            picture or video.
        CannotRun: a video cannot be written.
        OSError: a file cannot be written.
    """
    limits = limits or FrameLimits()
    inputs = _inputs(sources)
    targets = _targets(inputs, out) if out is not None else {}
    side_files = SideFiles(inputs, targets, out, labels, image_ids)
    fps, total = _lengths(inputs, limits)
    on_total(total)
    live = any(is_live(source) for source in inputs)
    if out is not None:
        results, failures = results or out / RESULTS_NAME, failures or out / FAILURES_NAME
    moving = live or any(is_video(source) for source in inputs)
    done = Predictions(len(inputs), "pictures or videos" if moving else "pictures")

    def fail(failure: Failure) -> None:
        if not stop_on_error or live:
            done.failures.append(failure)
            on_failure(failure)
        if stop_on_error:
            raise failure.error

    with contextlib.ExitStack() as stack:
        append = stack.enter_context(json_array(results)) if results is not None else None
        stack.enter_context(side_files)
        writer = stack.enter_context(AnnotatedWriter(targets, fps)) if out is not None else None
        stream = detector.stream(
            inputs,
            conf,
            on_error=fail,
            keep_images=writer is not None,
            max_frames=limits.frames,
            max_seconds=limits.seconds,
            every_frame=limits.every_frame,
        )
        stack.enter_context(contextlib.closing(stream))
        try:
            for found in stream:
                done.count += 1
                if append is not None:
                    append(found.to_dict())
                if writer is not None:
                    writer.add(found)
                side_files.add(found)
                on_result(found)
                if stop is not None and stop.is_set():
                    break
        except BadInput:
            if not done.failures:  # of a live source: what came before is kept
                raise
    done.saved = writer.saved if writer is not None else []
    if failures is not None:
        entries = [failure.to_dict() for failure in done.failures]
        with atomic_write(failures) as temporary:
            temporary.write_text(json.dumps(entries, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return done


def _inputs(sources: Iterable[str]) -> list[Path | str | int]:
    """Files, addresses and cameras, each once."""
    inputs: list[Path | str | int] = []
    for source in map(named_source, sources):
        if isinstance(source, int) or is_address(source):
            inputs.append(source)
        else:
            inputs += list_images(source, videos=True)
    return list(dict.fromkeys(inputs))


def _lengths(inputs: Sequence[Path | str | int], limits: FrameLimits) -> tuple[dict[str, float], int | None]:
    """The rate of each video by its name, and how many pictures and frames there are in all; None where a source does
    not tell. Of a video that cannot be read the stream will tell.
    """
    fps: dict[str, float] = {}
    total: int | None = 0
    for source in inputs:
        count: int | None = None
        if is_video(source):
            name = source_name(source) or ""
            try:
                facts = video_facts(source, name)
            except BadInput:
                continue
            if facts.fps is not None:
                fps[name] = facts.fps
            if facts.frames is not None and limits.seconds is None:
                count = min(facts.frames, limits.frames or facts.frames)
        elif not is_live(source):
            count = 1
        total = None if total is None or count is None else total + count
    return fps, total


def _targets(inputs: Sequence[Path | str | int], out: Path) -> dict[str, Path]:
    """Where the pictures and videos of each source go: a file's place below the folder that all have in common, a live
    source's name; formats that cannot be written become PNG and MP4, and no two go to one name.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out}: expected a folder, this is a file")
    paths = [source for source in inputs if isinstance(source, Path)]
    common = Path(os.path.commonpath([path.resolve().parent for path in paths])) if paths else Path()
    taken: set[Path] = set()
    targets = {}
    for source in inputs:
        name = source_name(source) or ""
        if isinstance(source, Path):
            target = out / source.resolve().relative_to(common)
        else:
            target = out / re.sub(r"[^\w.-]+", "-", name).strip("-.")
        suffixes, suffix = (WRITABLE, ".png")
        if not isinstance(source, Path) or is_video(source):
            suffixes, suffix = frozenset({".mp4"}), ".mp4"
        if target.suffix.lower() not in suffixes:
            target = target.with_name(target.name + suffix)
        number, first = 1, target
        while target in taken:
            number += 1
            target = first.with_stem(f"{first.stem}-{number}")
        taken.add(target)
        targets[name] = target
    overwritten = {p.resolve() for p in paths} & {t.resolve() for t in taken}
    if overwritten:
        raise BadInput(f"--out {out}: would overwrite the source {min(overwritten)}; choose another folder")
    return targets

"""Artifact: a model file and how it is opened; the one place of the benchmarks that opens a Detector."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from aweigh.runtime.bench.plan import BenchPlan
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256
from aweigh.runtime.images.preprocess import placement, prepare
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.network import ImagesU8, fill_batch
from aweigh.runtime.opening import OpenOptions
from aweigh.runtime.results.detections import Detections

# Keyword arguments of Detector and fields of OpenOptions alike; what they learn is added here and nowhere else.
SETTINGS: dict[str, type] = {
    "device": str,
    "threads": int,
    "backend": str,
    "precision": str,
    "ort_options": str,
    "decode_on": str,
}


@dataclass(frozen=True)
class Artifact:
    """A model file and keyword arguments of Detector."""

    path: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name of the file, and the settings that are not the default."""
        told = [f"{name}={value}" for name, value in self.settings.items() if name != "threads"]
        return " ".join([self.path.name, *told])

    def open(self) -> Detector:
        """Raises BadInput and CannotRun as Detector does."""
        return Detector(self.path, **self.settings)

    def plan(self, batch: int, **rest: Any) -> BenchPlan:
        """For ``bench_models``."""
        return BenchPlan(str(self.path), batch, OpenOptions(**self.settings), **rest)

    def about(self, detector: Detector) -> dict[str, Any]:
        """What stands in every row about the file."""
        spec = detector.spec
        return {
            "model": self.label,
            "sha256": file_sha256(self.path),
            "method": spec.method,
            "architecture": spec.architecture,
            "precision": spec.precision,
            "precision_computed": detector.precision,
            "post": spec.post.kind,
            "input_hw": list(spec.input.size_hw),
            "providers": list(detector.backend.providers),
            "threads": detector.backend.threads,
        }


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Flags for all files of a command."""
    for name, kind in SETTINGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help="as of aweigh.runtime.Detector")


def parse_artifact(text: str, options: argparse.Namespace) -> Artifact:
    """``FILE`` or ``FILE@device=cuda,threads=2``; what is not named is as the flags say. Raises BadInput."""
    path, _, given = text.partition("@")
    settings = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    for piece in filter(None, given.split(",")):
        name, equals, value = piece.partition("=")
        if name not in SETTINGS or not equals:
            raise BadInput(f"{text!r}: {piece!r}; expected FILE@NAME=VALUE,... with {', '.join(SETTINGS)}")
        try:
            settings[name] = SETTINGS[name](value)
        except ValueError as error:
            raise BadInput(f"{text!r}: {name}: expected {SETTINGS[name].__name__}, got {value!r}") from error
    return Artifact(Path(path), settings)


def bare_run(detector: Detector) -> Callable[[ImagesU8], Any]:
    """The library's own call on a prepared batch, nothing of ours around it; ``Detector.raw`` where it shows none."""
    session = getattr(detector.backend, "session", None)
    if session is None or not hasattr(session, "run") or getattr(detector.backend, "binds", False):
        return detector.raw
    names = [output.name for output in session.get_outputs()]
    feed = session.get_inputs()[0].name
    return lambda batch: session.run(names, {feed: batch})


def prepared_batches(detector: Detector, sources: Sequence[Any]) -> list[ImagesU8]:
    """The batches that ``detector(sources)`` runs: consecutive pictures of one input size, filled up with grey."""
    spec = detector.spec.input
    waiting: dict[tuple[int, int], list[ImagesU8]] = {}
    capacity = min(len(sources), detector.batch_size)
    batches: list[ImagesU8] = []
    for source in sources:
        image = read_image(source)
        size_hw = placement((image.shape[0], image.shape[1]), spec).input_hw
        group = waiting.setdefault(size_hw, [])
        group.append(prepare(image, spec)[0])
        if len(group) == capacity:
            batches.append(np.stack(waiting.pop(size_hw)))
    batches += [np.stack(group) for group in waiting.values()]
    return [fill_batch(batch, detector.spec) for batch in batches]


def frames(video: Path) -> Iterator[ImagesU8]:
    """The frames of a video, RGB [H, W, 3], one after the other. Raises BadInput where it cannot be opened."""
    capture = cv2.VideoCapture(str(video))
    try:
        if not capture.isOpened():
            raise BadInput(f"{video}: cannot be opened as a video")
        while True:
            read, frame_bgr = capture.read()
            if not read:
                return
            yield np.asarray(cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        capture.release()


def detect_video(detector: Detector, video: Path) -> Iterator[Detections]:
    """Detections of each frame in order, as ``aweigh predict`` gets them."""
    yield from detector.stream(video, keep_images=False)


def identical(a: Detections, b: Detections) -> bool:
    """Whether two results are equal to the last bit."""
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("xyxy", "conf", "cls"))

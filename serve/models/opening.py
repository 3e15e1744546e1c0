"""Opening a model file for serving: it answers no request before it has passed its self-test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from aweigh.runtime.detector import Detector
from aweigh.serve.settings import Limits, ModelSource, Settings

_VERSION_DIGITS = 12


@dataclass(frozen=True)
class OpenModel:
    """An opened model file.

    Attributes:
        detector: warmed up; the receiver closes it.
        version: the first twelve digits of the sha256 of the bytes that compute: the same file has it on every machine.
    """

    detector: Detector
    version: str


Opener: TypeAlias = Callable[[ModelSource, Settings], OpenModel]


def open_model(source: ModelSource, settings: Settings) -> OpenModel:
    """Open a model file, test it on its golden images and run it once.

    Raises:
        BadInput, CannotRun, CheckFailed: it cannot be opened, or does not compute what it should.
    """
    detector = Detector(
        source.path,
        settings.device,
        settings.threads,
        backend=settings.backend,
        precision=settings.precision,
        ort_options=settings.ort_options,
    )
    try:
        detector.warm_up(largest_batch(detector, settings.limits))
    except BaseException:
        detector.close()
        raise
    return OpenModel(detector, detector.backend.sha256[:_VERSION_DIGITS])


def largest_batch(detector: Detector, limits: Limits) -> int:
    """Most images in one call of the network: what the file takes, within the limit."""
    smallest, largest = detector.spec.batch
    return max(smallest, min(largest, limits.batch))

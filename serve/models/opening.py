"""Opening a model file for serving: it answers nobody before it has proved itself."""

from __future__ import annotations

from aweigh.runtime.detector import Detector
from aweigh.serve.settings import Limits, ModelSource, Settings


def open_detector(source: ModelSource, settings: Settings) -> Detector:
    """Open a file and let it prove itself.

    Raises BadInput, CannotRun or CheckFailed: it cannot be opened, or does not compute what it should.
    """
    detector = Detector(
        source.path, settings.device, settings.threads, backend=settings.backend, precision=settings.precision
    )
    try:
        detector.warm_up(largest_batch(detector, settings.limits))
    except BaseException:
        detector.close()
        raise
    return detector


def largest_batch(detector: Detector, limits: Limits) -> int:
    """Most pictures that one call of the network gets: what the file takes, within the limit."""
    smallest, largest = detector.spec.batch
    return max(smallest, min(largest, limits.batch))

"""Opening a model file for serving: it answers nobody before it has proved itself."""

from __future__ import annotations

import numpy as np

from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import CheckFailed
from aweigh.runtime.preprocess import placement
from aweigh.serve.settings import Limits, ModelSource, Settings


def open_detector(source: ModelSource, settings: Settings) -> Detector:
    """Open a file and let it prove itself.

    Raises BadInput, CannotRun or CheckFailed: it cannot be opened, or does not compute what it should.
    """
    detector = Detector(
        source.path, settings.device, settings.threads, backend=settings.backend, precision=settings.precision
    )
    try:
        # Both ends of what clients can ask for, so that the first does not pay for memory that grows on first use.
        smallest, largest = detector.spec.batch[0], largest_batch(detector, settings.limits)
        input_hw = placement(detector.spec.input.size_hw, detector.spec.input).input_hw
        for rows in sorted({smallest, largest}):
            outputs = detector.raw(np.full((rows, *input_hw, 3), 114, np.uint8))
            if not (np.isfinite(outputs["boxes"]).all() and np.isfinite(outputs["scores"]).all()):
                raise CheckFailed(f"{source.path}: a grey picture gives boxes or scores that are not finite")
    except BaseException:
        detector.close()
        raise
    return detector


def largest_batch(detector: Detector, limits: Limits) -> int:
    """Most pictures that one call of the network gets: what the file takes, within the limit."""
    smallest, largest = detector.spec.batch
    return max(smallest, min(largest, limits.batch))

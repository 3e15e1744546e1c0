"""View: a Finder in front of another one; MultiView: one that runs it on several views of each image and merges."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

from aweigh.runtime.flow.confidence import Conf
from aweigh.runtime.flow.finder import Finder
from aweigh.runtime.flow.pipeline import Outcome
from aweigh.runtime.images.reading import ImageU8
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.spec import ModelSpec
from aweigh.runtime.views.group import Group, GroupBuilder


class View(Finder):
    """A Finder in front of another one, which it asks."""

    def __init__(self, inner: Finder) -> None:
        """Wrap a detector, which stays the caller's to close."""
        self.inner = inner

    @property
    def spec(self) -> ModelSpec:
        """The contract of the file."""
        return self.inner.spec

    @property
    def batch_size(self) -> int:
        """How many images of a list are handed over at once: as many as the inner Finder takes."""
        return self.inner.batch_size


class MultiView(View):
    """Base of Sliced and Augmented.

    In the ``speed`` of its results, preprocess, network and postprocess are sums over all views; postprocess holds the
    merging too.
    """

    def _builder(self, capacity: int, keep_images: bool | None) -> GroupBuilder:
        return GroupBuilder(capacity, keep_images)

    def _run(self, batch: Group, conf: Conf | None) -> Outcome[Group]:
        start = time.perf_counter()
        detections = self._detect([row.decoded.on_host for row in batch.rows], conf)
        return Outcome(batch, detections, (time.perf_counter() - start) * 1e3)

    def _collect(self, outcome: Outcome[Group], row: int, conf: Conf | None) -> Detections:
        detections: Detections = outcome.outputs[row]
        return detections

    @abstractmethod
    def _detect(self, images: Sequence[ImageU8], conf: Conf | None) -> list[Detections]:
        """Detections of each image, with the speed of preprocess, network and postprocess."""


def summed_speed(parts: Iterable[Mapping[str, float]], merge_ms: float) -> dict[str, float]:
    """Milliseconds by stage of one image, from those of its views; reading a view is preprocessing."""
    total = {"preprocess": 0.0, "network": 0.0, "postprocess": merge_ms}
    for speed_ms in parts:
        for stage, ms in speed_ms.items():
            total["preprocess" if stage == "decode" else stage] += ms
    return total

"""Wrapper: a Finder made of another one, which it calls several times for each picture."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

from aweigh.runtime.flow.confidence import Conf
from aweigh.runtime.flow.failure import Failure, raise_failure
from aweigh.runtime.flow.finder import Finder, OpenItems
from aweigh.runtime.flow.sources import Item
from aweigh.runtime.flow.stream import detect_all_apart, detect_one_apart
from aweigh.runtime.images.reading import ImageU8
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.spec import ModelSpec


class Wrapper(Finder):
    """Of the ``speed`` of its results, preprocess, network and postprocess are sums over all that was looked at, and
    postprocess holds the merging too.
    """

    def __init__(self, inner: Finder) -> None:
        self.inner = inner

    @property
    def spec(self) -> ModelSpec:
        return self.inner.spec

    @property
    def batch_size(self) -> int:
        return self.inner.batch_size

    def _one(self, item: Item, conf: Conf | None) -> Detections:
        return detect_one_apart(lambda images: self._detect(images, conf), item)

    def _all(
        self,
        items: OpenItems,
        conf: Conf | None,
        capacity: int,
        on_failure: Callable[[Failure], None] = raise_failure,
        keep_images: bool | None = None,
    ) -> Generator[Detections, None, None]:
        return detect_all_apart(lambda images: self._detect(images, conf), items, capacity, on_failure, keep_images)

    @abstractmethod
    def _detect(self, images: Sequence[ImageU8], conf: Conf | None) -> list[Detections]:
        """One for each picture, with the speed of preprocess, network and postprocess."""


def summed_speed(parts: Iterable[Mapping[str, float]], merge_ms: float) -> dict[str, float]:
    """Milliseconds by stage of one picture out of those of its parts; reading a part is preprocessing."""
    total = {"preprocess": 0.0, "network": 0.0, "postprocess": merge_ms}
    for speed_ms in parts:
        for stage, ms in speed_ms.items():
            total["preprocess" if stage == "decode" else stage] += ms
    return total

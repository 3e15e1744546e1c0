"""One label for an object: detections without those that a better one of any class overlaps."""

from __future__ import annotations

from typing import Any

from aweigh.runtime.flow.batch import Decoded
from aweigh.runtime.flow.confidence import Conf
from aweigh.runtime.flow.pipeline import Batching, Outcome
from aweigh.runtime.flow.sources import Item
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.spec import PostSpec
from aweigh.runtime.views.merge import nms
from aweigh.runtime.views.multi_view import View


def suppress_across_classes(found: Detections, post: PostSpec) -> Detections:
    """The detections that no better one of any class overlaps by more than the file's IoU threshold, best first.

    These are the survivors of NMS within classes. A file exported with ``--agnostic`` suppresses the candidates
    themselves; the two differ where a box fell to one of its own class that another class's box would have suppressed.
    """
    kept = nms(found.xyxy, found.conf, found.cls, post.iou_threshold, post.iou_convention, agnostic=True)
    return found[kept]


class Agnostic(View):
    """A Finder whose detections have one label for each object, see ``suppress_across_classes``.

    Example:
        >>> from aweigh.runtime import Detector
        >>> with Detector(model_path) as detector:
        ...     len(detector(image)), len(Agnostic(detector)(image))  # the halves overlap too little
        (2, 2)
    """

    def _decode(self, item: Item) -> Decoded:
        return self.inner._decode(item)

    def _builder(self, capacity: int, keep_images: bool | None) -> Batching[Any]:
        return self.inner._builder(capacity, keep_images)

    def _run(self, batch: Any, conf: Conf | None) -> Outcome[Any]:
        return self.inner._run(batch, conf)

    def _collect(self, outcome: Outcome[Any], row: int, conf: Conf | None) -> Detections:
        return suppress_across_classes(self.inner._collect(outcome, row, conf), self.spec.post)

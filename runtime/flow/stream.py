"""From items to Detections: one in the caller's thread, many through the pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.batch import Batch, Batcher, decode
from aweigh.runtime.flow.confidence import Conf
from aweigh.runtime.flow.failure import Failure, raise_failure
from aweigh.runtime.flow.groups import Group, Grouper, Waiting
from aweigh.runtime.flow.pipeline import B, Outcome, Pipeline
from aweigh.runtime.flow.sources import Item, Stop
from aweigh.runtime.images.preprocess import placement
from aweigh.runtime.images.reading import ImageU8
from aweigh.runtime.results.detections import Detections

if TYPE_CHECKING:
    from aweigh.runtime.detector import Detector


def detect_one(detector: Detector, item: Item, conf: Conf | None) -> Detections:
    """Read, prepare, run and unmap, one after the other: threads would not make a lone picture faster."""
    spec = detector.spec.input
    decoded = decode(item)
    where = placement((decoded.image.shape[0], decoded.image.shape[1]), spec)
    batch = Batch.empty(where.input_hw, max(1, detector.spec.batch[0]))
    batch.add(0, decoded, where, spec)
    return _collect(detector, _run(detector, batch), 0, conf)


def detect_all(
    detector: Detector,
    items: Callable[[Stop], Generator[Item | Failure, None, None]],
    conf: Conf | None,
    capacity: int,
    on_failure: Callable[[Failure], None] = raise_failure,
    keep_images: bool | None = None,
) -> Generator[Detections, None, None]:
    """Detections of items in their order; see ``Detector.stream``.

    Args:
        items: opens them; called when the first result is asked for.
        conf: checked already.
        capacity: pictures in a batch.
        on_failure: called in the place of an item that could not be read.
    """
    batcher = Batcher(detector.spec.input, capacity, detector.spec.batch[0], keep_images)
    pipeline = Pipeline(items, batcher, lambda batch: _run(detector, batch))
    return _delivered(pipeline, lambda outcome, row: _collect(detector, outcome, row, conf), on_failure)


def detect_all_apart(
    find: Callable[[Sequence[ImageU8]], Sequence[Detections]],
    items: Callable[[Stop], Generator[Item | Failure, None, None]],
    capacity: int,
    on_failure: Callable[[Failure], None] = raise_failure,
    keep_images: bool | None = None,
) -> Generator[Detections, None, None]:
    """As ``detect_all``, where ``find`` prepares the pictures itself, several times each, say.

    Args:
        find: Detections of up to ``capacity`` decoded pictures.
    """
    pipeline = Pipeline(items, Grouper(capacity), lambda group: _find(find, group))
    return _delivered(pipeline, lambda outcome, row: _named(outcome, row, keep_images), on_failure)


def detect_one_apart(find: Callable[[Sequence[ImageU8]], Sequence[Detections]], item: Item) -> Detections:
    """As ``detect_one``, where ``find`` prepares the picture itself."""
    return _named(_find(find, Group([Waiting(0, decode(item))])), 0, None)


def _delivered(
    pipeline: Pipeline[B], collect: Callable[[Outcome[B], int], Detections], on_failure: Callable[[Failure], None]
) -> Generator[Detections, None, None]:
    try:
        for result in pipeline.results():
            if not isinstance(result, Failure):
                yield collect(*result)
            elif isinstance(result.error, BadInput):
                on_failure(result)
            else:
                raise result.error
    finally:
        pipeline.close()


def _find(find: Callable[[Sequence[ImageU8]], Sequence[Detections]], group: Group) -> Outcome[Group]:
    return Outcome(group, find([row.decoded.image for row in group.rows]), 0.0)


def _named(outcome: Outcome[Group], row: int, keep_images: bool | None) -> Detections:
    decoded, found = outcome.batch.rows[row].decoded, outcome.outputs[row]
    item = decoded.item
    keep = not item.is_file if keep_images is None else keep_images
    speed_ms = {"decode": decoded.decode_ms, **found.speed}
    named: Detections = found.from_picture(
        item.path, decoded.image if keep else None, speed_ms, item.frame, item.time_s
    )
    return named


def _run(detector: Detector, batch: Batch) -> Outcome[Batch]:
    images_u8 = batch.padded(detector.spec.batch[0], detector.spec.input.pad_value)
    start = time.perf_counter()
    outputs = detector.raw(images_u8)
    return Outcome(batch, outputs, (time.perf_counter() - start) * 1e3)


def _collect(detector: Detector, outcome: Outcome[Batch], row: int, conf: Conf | None) -> Detections:
    picture = outcome.batch.rows[row]
    start = time.perf_counter()
    found = detector.unmap(outcome.outputs, row, picture.where, conf)
    postprocess_ms = (time.perf_counter() - start) * 1e3
    network_ms = outcome.network_ms / len(outcome.batch.rows)
    speed_ms = {**picture.speed_ms, "network": network_ms, "postprocess": postprocess_ms}
    item = picture.item
    return found.from_picture(item.path, picture.image, speed_ms, item.frame, item.time_s)

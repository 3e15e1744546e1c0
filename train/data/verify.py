"""Annotations against images: what is faulty is found here, once, before training starts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import LEAST_SIDE_PX
from aweigh.train.data.raw import RawBox, RawImage, RawSplit
from aweigh.train.data.records import Fault, ImageRecord, Split, summary
from aweigh.train.data.scan import ImageFacts, scan_images

Faulty: TypeAlias = Literal["drop", "refuse"]
Corners: TypeAlias = tuple[float, float, float, float]

_CLIP_TOLERANCE_PX = 1.0  # VOC counts from 1, COCO's decimals are rounded: not worth a line


@dataclass(frozen=True)
class CheckedImage:
    """An image that can be used, and its boxes that can: as read, and with corners in pixels, within the image."""

    raw: RawImage
    facts: ImageFacts
    boxes: tuple[tuple[RawBox, Corners], ...]


@dataclass(frozen=True)
class Checked:
    """What is left of a split after every image and box was checked; ``faults``: of the reader, and of this."""

    raw: RawSplit
    images: tuple[CheckedImage, ...]
    faults: tuple[Fault, ...]


def check(raw: RawSplit, faulty: Faulty = "drop", decode: bool = False) -> Checked:
    """Check every image and box, and keep what can be trained and evaluated on, as it was read.

    Args:
        faulty: ``drop`` leaves the faulty box or image out and lists it in the faults; ``refuse`` raises.
        decode: decode every image in full (see scan_images).

    Raises:
        BadInput: a fault under ``refuse``, or no image is left.
    """
    faults = list(raw.faults)
    images = _listed_once(raw.images, faults)
    kept: list[CheckedImage] = []
    for image, facts in zip(images, scan_images([image.path for image in images], decode), strict=True):
        if isinstance(facts, str):
            kind = "broken-picture" if os.path.exists(image.path) else "missing-picture"
            faults.append(Fault(kind, image.path.name, facts))
        elif image.size_hw is not None and image.size_hw != facts.size_hw:
            turned = facts.turned and image.size_hw == facts.size_hw[::-1]
            kind = "exif-orientation" if turned else "size-mismatch"
            faults.append(Fault(kind, image.path.name, _sizes(image.size_hw, facts), image.path))
        else:
            kept.append(_checked(image, facts, faults))
    if faulty == "refuse" and faults:
        lines = "\n".join(summary(faults, examples=10))
        raise BadInput(f"split {raw.name!r}: {len(faults)} faults, and faulty annotations are refused:\n{lines}")
    if not kept:
        lines = "\n".join(summary(faults)) or "the list is empty"
        raise BadInput(f"split {raw.name!r}: no usable image\n{lines}")
    return Checked(raw, tuple(kept), tuple(faults))


def verify(raw: RawSplit, faulty: Faulty = "drop", decode: bool = False) -> Split:
    """As :func:`check`, as arrays; faults are in Split.faults."""
    checked = check(raw, faulty, decode)
    records = tuple(map(_record, checked.images))
    return Split(raw.name, raw.categories, records, checked.faults, tuple(raw.notes))


def _listed_once(images: list[RawImage], faults: list[Fault]) -> list[RawImage]:
    first: dict[Path, RawImage] = {}
    for image in images:
        if image.path in first:
            detail = f"image {image.image_id} is the file of image {first[image.path].image_id}"
            faults.append(Fault("duplicate-file", image.path.name, detail))
        else:
            first[image.path] = image
    return list(first.values())


def _sizes(annotated_hw: tuple[int, int], facts: ImageFacts) -> str:
    height, width = facts.size_hw
    detail = f"annotated {annotated_hw[1]}x{annotated_hw[0]}, the image has {width}x{height}"
    if annotated_hw == facts.size_hw[::-1]:
        why = "boxes of an image before its EXIF rotation?" if facts.turned else "height and width swapped?"
        detail += f" ({why} annotate it as viewers show it)"
    return detail


def _checked(image: RawImage, facts: ImageFacts, faults: list[Fault]) -> CheckedImage:
    height, width = facts.size_hw
    scale_x, scale_y = (width, height) if image.unit == "fraction" else (1, 1)
    kept: list[RawBox] = []
    corners: list[Corners] = []
    for box in image.boxes:
        x1, y1, x2, y2 = box.xyxy
        given = (x1 * scale_x, y1 * scale_y, x2 * scale_x, y2 * scale_y)
        clipped = (
            _within(given[0], width),
            _within(given[1], height),
            _within(given[2], width),
            _within(given[3], height),
        )
        kind = next((kind for kind, applies in _BOX_FAULTS.items() if applies(given, clipped)), None)
        if kind is not None:
            place = f"{box.where}: xyxy {[round(v, 1) for v in given]} px in {width}x{height}"
            faults.append(Fault(kind, image.path.name, place, image.path, (given,)))
        if kind in (None, "clipped"):
            kept.append(box)
            corners.append(clipped)
    return CheckedImage(image, facts, tuple(zip(kept, corners, strict=True)))


def _record(image: CheckedImage) -> ImageRecord:
    kept = [box for box, _ in image.boxes]
    xyxy = np.array([corners for _, corners in image.boxes], np.float64).reshape(-1, 4)
    given_areas = np.array([math.nan if box.area is None else box.area for box in kept], np.float64)
    box_areas = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])
    return ImageRecord(
        image_id=image.raw.image_id,
        path=image.raw.path,
        size_hw=image.facts.size_hw,
        boxes_xyxy=xyxy.astype(np.float32),
        labels=np.array([box.label for box in kept], np.int64),
        crowd=np.array([box.crowd for box in kept], np.bool_),
        difficult=np.array([box.difficult for box in kept], np.bool_),
        areas=np.where(np.isfinite(given_areas) & (given_areas >= 0), given_areas, box_areas),
        file_bytes=image.facts.file_bytes,
    )


def _within(value: float, limit: int) -> float:
    return min(max(value, 0.0), float(limit))


# Kind -> whether it applies to (corners as given, corners clipped to the image); the first that does is reported.
_BOX_FAULTS: dict[str, Callable[[Corners, Corners], bool]] = {
    "not-finite": lambda given, _: not all(map(math.isfinite, given)),
    "negative-size": lambda given, _: given[2] < given[0] or given[3] < given[1],
    "zero-size": lambda given, _: min(given[2] - given[0], given[3] - given[1]) < LEAST_SIDE_PX,
    "outside": lambda _, clipped: min(clipped[2] - clipped[0], clipped[3] - clipped[1]) < LEAST_SIDE_PX,
    "clipped": lambda given, clipped: max(abs(g - c) for g, c in zip(given, clipped, strict=True)) > _CLIP_TOLERANCE_PX,
}

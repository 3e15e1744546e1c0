"""What a data set is once it has been read: images with boxes, and the list of what was wrong with it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.spec import Category

# Kind of fault -> what it means, as summary() prints it. Only "clipped" keeps its box; "broken-picture",
# "missing-picture", "ambiguous-image", "size-mismatch", "exif-orientation" and the duplicates of images cost the
# whole image.
FAULT_KINDS = {
    "zero-size": "box of width or height 0",
    "negative-size": "box of negative width or height",
    "outside": "box wholly outside its image",
    "clipped": "box reaching out of its image by more than a pixel (clipped)",
    "not-finite": "box with NaN or infinite coordinates",
    "unknown-category": "category that the data set does not declare",
    "unknown-picture": "annotation of an image that is not listed",
    "missing-picture": "image file that is not there",
    "broken-picture": "image file that is empty, cut off or no image",
    "size-mismatch": "annotated size that is not the size of the image",
    "exif-orientation": "annotated size that is the image's before the rotation in its EXIF data",
    "missing-annotation": "listed image without its annotation file",
    "unreadable-annotation": "annotation that cannot be read",
    "duplicate-annotation": "annotation id used twice",
    "duplicate-picture": "image id used twice",
    "duplicate-file": "image file listed twice",
    "ambiguous-image": "several image files of one name, of which the annotation names none",
}
# What costs no annotation, and yet may not be what was meant.
NOTE_KINDS = {
    "no-label-file": "image without a label file, taken as one without objects",
    "not-annotated": "image without an annotation, left out",
    "no-class-names": "no file has the names of the classes; their numbers are taken",
    "outside-folder": "images outside of the data set's folder",
    "root-category": "category without objects that all others belong to, as Roboflow writes it; left out",
}


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a data set.

    Attributes:
        kind: a key of FAULT_KINDS or NOTE_KINDS (``aweigh.train.doctor`` has more).
        file: name of the image, or of the annotation file where no image is concerned.
        detail: what the file states, and what it should.
        path: of the image, where one is concerned and was found.
        boxes_xyxy: the boxes it is about, pixels of the image, as annotated.
        others: the other images it is about.
    """

    kind: str
    file: str
    detail: str
    path: Path | None = field(default=None, compare=False)
    boxes_xyxy: tuple[tuple[float, float, float, float], ...] = field(default=(), compare=False)
    others: tuple[Path, ...] = field(default=(), compare=False)


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image and its N boxes. The arrays are read-only.

    Attributes:
        image_id: the data set's own.
        size_hw: pixels, after EXIF's orientation, that is, of the array ``read_image`` returns.
        boxes_xyxy: [N, 4] float32, pixels of that array, continuous, within it.
        labels: [N] int64, position in Split.categories.
        crowd: [N] bool, COCO's ``iscrowd``: a region of many objects, neither a target nor a false positive.
        difficult: [N] bool, VOC's ``difficult``: missing this object is no error, finding it no success.
        areas: [N] float64, square pixels: COCO's ``area`` (of the outline) where given, else width x height.
        file_bytes: size of the image file; part of the digest.
    """

    image_id: int | str
    path: Path
    size_hw: tuple[int, int]
    boxes_xyxy: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]
    difficult: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float64]
    file_bytes: int = 0

    def __post_init__(self) -> None:
        for array in (self.boxes_xyxy, self.labels, self.crowd, self.difficult, self.areas):
            array.flags.writeable = False

    @property
    def targets(self) -> npt.NDArray[np.bool_]:
        """[N] the boxes to train on: neither crowd nor difficult."""
        return ~(self.crowd | self.difficult)


def read_record(record: ImageRecord) -> npt.NDArray[np.uint8]:
    """The image of a record, RGB uint8 [H, W, 3].

    Raises:
        BadInput: the file is gone, cannot be decoded, or no longer has the size it had when the data set was read.
    """
    image = read_image(record.path)
    if image.shape[:2] != record.size_hw:
        raise BadInput(
            f"{record.path}: {image.shape[1]}x{image.shape[0]} pixels, but {record.size_hw[1]}x{record.size_hw[0]} "
            "when the data set was read; it was changed meanwhile, start again"
        )
    return image


@dataclass(frozen=True, eq=False)
class Split:
    """One split of a data set, ready to train or evaluate on.

    Attributes:
        name: as the data set calls it (``val2017`` where ``val`` was asked for).
        categories: in label order.
        records: images without objects are among them, with N = 0.
        faults: what is wrong and was left out, or clipped.
        notes: what may be wrong and was used as it is.
    """

    name: str
    categories: tuple[Category, ...]
    records: tuple[ImageRecord, ...]
    faults: tuple[Fault, ...] = ()
    notes: tuple[Fault, ...] = ()

    @property
    def names(self) -> dict[int, str]:
        """Category id to name, in label order."""
        return {c.id: c.name for c in self.categories}

    def digest(self) -> str:
        """sha256 (hex) over categories, and ids, file names, file sizes and annotations of all images in order.

        It does not depend on where the data set lies. The pixels themselves are not read.
        """
        content = hashlib.sha256(json.dumps([[c.id, c.name] for c in self.categories]).encode())
        for record in self.records:
            head = [record.image_id, record.path.name, record.file_bytes, record.size_hw, len(record.labels)]
            content.update(json.dumps(head).encode())
            for array in (record.boxes_xyxy, record.labels, record.crowd, record.difficult, record.areas):
                content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()

    def require_same_categories(self, other: Split) -> None:
        """Raises BadInput where ``other`` declares other category ids or names: its labels would mean other things."""
        if self.categories != other.categories:
            ours, theirs = set(self.categories), set(other.categories)
            raise BadInput(
                f"splits {self.name!r} and {other.name!r} declare different categories: "
                f"only in {self.name}: {_listed(ours - theirs)}; only in {other.name}: {_listed(theirs - ours)}; "
                "give both files the same list"
            )


def sample(records: Sequence[ImageRecord], count: int, seed: int | None = None) -> list[ImageRecord]:
    """At most ``count`` of one record or more, in their order: evenly spaced, or with a seed drawn at random."""
    if seed is None:
        chosen = np.unique(np.linspace(0, len(records) - 1, count).round().astype(int))
    else:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(records))[:count])
    return [records[i] for i in chosen]


def summary(faults: Iterable[Fault], examples: int = 3) -> list[str]:
    """Lines for the log: each kind with its count and up to ``examples`` cases, most frequent kind first.

    Example:
        >>> summary([Fault("zero-size", "a.jpg", "line 3")])
        ['zero-size: 1 (box of width or height 0)', '  a.jpg: line 3']
    """
    faults = list(faults)
    lines = []
    for kind, count in Counter(fault.kind for fault in faults).most_common():
        lines.append(f"{kind}: {count} ({(FAULT_KINDS | NOTE_KINDS)[kind]})")
        cases = [fault for fault in faults if fault.kind == kind]
        lines += [f"  {fault.file:.200}: {fault.detail:.300}" for fault in cases[:examples]]
        if len(cases) > examples:
            lines.append(f"  ... and {len(cases) - examples} more")
    return lines


def _listed(categories: Iterable[Category]) -> str:
    return ", ".join(f"{c.id} {c.name!r}" for c in sorted(categories, key=lambda c: c.id)) or "none"

"""What the readers hand over: annotations as the files state them, before anything is checked against the images.

Annotations that a stranger wrote may name any file of this machine: images outside of the data set's folder are found
here.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category
from aweigh.train.data.documents import INT64, is_name, shorten
from aweigh.train.data.records import Fault


@dataclass(frozen=True)
class RawBox:
    """One annotated box.

    Attributes:
        xyxy: corners in the unit of its image; any floats, NaN included.
        label: position in the categories.
        area: COCO's, square pixels; None where the format has none.
        where: how a message calls the annotation, ``annotation 17`` or ``line 3`` say.
        own: COCO's: the annotation as its file has it.
    """

    xyxy: tuple[float, float, float, float]
    label: int
    where: str
    area: float | None = None
    crowd: bool = False
    difficult: bool = False
    own: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RawImage:
    """One listed image.

    Attributes:
        size_hw: as annotated, pixels; None if the format does not state it.
        unit: of its boxes; ``fraction`` is of the image's width and height.
        own: COCO's: the image as its file has it.
    """

    image_id: int | str
    path: Path
    boxes: list[RawBox] = field(default_factory=list)
    size_hw: tuple[int, int] | None = None
    unit: Literal["px", "fraction"] = "px"
    own: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RawSplit:
    """What a reader read of one split.

    Attributes:
        faults, notes: those visible without opening the images.
        own: COCO's: the whole file.
    """

    name: str
    categories: tuple[Category, ...]
    images: list[RawImage]
    faults: list[Fault]
    notes: list[Fault] = field(default_factory=list)
    own: Mapping[str, Any] | None = None


def categories_in_order(pairs: Iterable[tuple[int, str]], file: Path) -> tuple[Category, ...]:
    """Categories sorted by id.

    Raises:
        BadInput: there is none, an id comes twice or does not fit into 64 bits, or a name is no text.
    """
    pairs = list(pairs)
    if not pairs:
        raise BadInput(f"{file}: the list of categories is empty; a detector needs at least one class")
    for id_, name in pairs:
        if not is_name(name):
            raise BadInput(f"{file}: category {id_}: expected a name, got {shorten(name)}; put it in quotes")
        if id_ not in INT64:
            raise BadInput(f"{file}: category {name!r}: expected an id of 64 bits, got {shorten(id_)}")
    twice = sorted(id_ for id_, count in Counter(id_ for id_, _ in pairs).items() if count > 1)
    if twice:
        raise BadInput(f"{file}: category ids used twice: {shorten(twice)}; give each class its own id")
    return tuple(Category(id_, name) for id_, name in sorted(pairs))


def require_inside(raw: RawSplit, root: Path, file: Path) -> RawSplit:
    """Raises BadInput where an image that is there lies outside of the data set's folder.

    What counts is the name: a link inside the folder may lead anywhere, for the owner of the folder made it.

    Args:
        root: the data set's folder.
        file: what lists the images.
    """
    for image in _outside(raw, root):
        if os.path.lexists(image.path):
            raise BadInput(
                f"{file}: {str(image.path)[:200]!r} lies outside of the data set's folder {root}; --outside-images "
                "reads such images, of data that you trust"
            )
    return raw


def note_outside(raw: RawSplit, root: Path, file: Path) -> RawSplit:
    """With a note where images lie outside of the data set's folder."""
    images = list(_outside(raw, root))
    if not images:
        return raw
    detail = f"{len(images)} of {len(raw.images)}, such as {str(images[0].path)[:200]}"
    return replace(raw, notes=[*raw.notes, Fault("outside-folder", file.name, detail, images[0].path)])


def _outside(raw: RawSplit, root: Path) -> Iterator[RawImage]:
    top = os.path.join(os.path.abspath(root), "")
    for image in raw.images:
        try:
            inside = os.path.abspath(image.path).startswith(top)
        except ValueError:  # a name that no file can have
            continue
        if not inside:
            yield image

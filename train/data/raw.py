"""What the readers hand over: annotations as the files state them, before anything is checked against the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
    """

    xyxy: tuple[float, float, float, float]
    label: int
    where: str
    area: float | None = None
    crowd: bool = False
    difficult: bool = False


@dataclass(frozen=True)
class RawImage:
    """One listed image.

    Attributes:
        size_hw: as annotated, pixels; None if the format does not state it.
        unit: of its boxes; ``fraction`` is of the image's width and height.
    """

    image_id: int | str
    path: Path
    boxes: list[RawBox] = field(default_factory=list)
    size_hw: tuple[int, int] | None = None
    unit: Literal["px", "fraction"] = "px"


@dataclass(frozen=True)
class RawSplit:
    """What a reader read of one split; ``faults`` and ``notes`` are those visible without opening the images."""

    name: str
    categories: tuple[Category, ...]
    images: list[RawImage]
    faults: list[Fault]
    notes: list[Fault] = field(default_factory=list)


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

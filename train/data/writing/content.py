"""What a writer makes of a data set before it writes: files, images to copy, and what its format cannot hold."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category
from aweigh.train.data.raw import RawBox
from aweigh.train.data.verify import Checked, CheckedImage, Corners

_OUTLINE_AREA = 0.01  # of the box's area: what rounding does not explain


@dataclass
class Content:
    """The files of a data set in one format, by their paths in its folder.

    Attributes:
        texts: of annotation files.
        copies: to the image file.
        losses: what the format cannot hold, to how many cases of it there are.
    """

    texts: dict[PurePosixPath, str] = field(default_factory=dict)
    copies: dict[PurePosixPath, Path] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)

    def write(self, folder: Path) -> Iterator[Path]:
        """Write all files; yields each image as it is copied."""
        for name, text in self.texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        for name, source in self.copies.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            yield Path(shutil.copyfile(source, folder / name))


@dataclass(frozen=True)
class Whole:
    """A data set to be written: its splits by name, and the categories that they share."""

    splits: Mapping[str, Checked]

    @property
    def categories(self) -> tuple[Category, ...]:
        """Raises BadInput where the splits declare different ones."""
        first, *others = self.splits.values()
        for other in others:
            if other.raw.categories != first.raw.categories:
                raise BadInput(
                    f"splits {first.raw.name!r} and {other.raw.name!r} declare different categories; "
                    "give all splits the same list"
                )
        return first.raw.categories


class FreeNames:
    """Gives each image a file name of its own, whatever the case of letters: no two have one stem."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, path: Path) -> str:
        """The name of a file, with a number behind its stem where another has it already."""
        # What no text file can hold: bytes that are not UTF-8, and signs that end a line.
        plain = "".join(sign if sign.isprintable() else "_" for sign in path.stem)
        stem, number = plain, 1
        while stem.lower() in self._taken:
            number += 1
            stem = f"{plain}_{number}"
        self._taken.add(stem.lower())
        return stem + path.suffix


def count_coco_only(images: Sequence[CheckedImage], losses: Counter[str]) -> None:
    """What COCO's annotations have and those of other formats have not: ids, areas of outlines, outlines."""
    for image in images:
        losses["ids of images"] += image.raw.own is not None
        for box, corners in image.boxes:
            losses["ids of annotations"] += box.own is not None and "id" in box.own
            losses["outlines"] += box.own is not None and bool(box.own.get("segmentation"))
            losses["areas that are not those of the boxes"] += _has_outline_area(box, corners)


def count_other_ids(whole: Whole, first: int, losses: Counter[str]) -> None:
    """Categories whose ids are not their positions, from ``first``; those that a reader numbered are no loss."""
    ids = [category.id for category in whole.categories]
    are_own = any(split.raw.own is not None for split in whole.splits.values())
    if are_own or ids != list(range(ids[0], ids[0] + len(ids))):
        losses["ids of categories"] += sum(id_ != i for i, id_ in enumerate(ids, first))


def number(value: float) -> str:
    """At most ten digits, without zeros at the end."""
    return f"{value:.10g}"


def _has_outline_area(box: RawBox, corners: Corners) -> bool:
    size = (corners[2] - corners[0]) * (corners[3] - corners[1])
    return box.area is not None and abs(box.area - size) > _OUTLINE_AREA * size

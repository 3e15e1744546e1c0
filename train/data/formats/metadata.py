"""Hugging Face's folders of images: ``metadata.jsonl`` with a ``file_name`` and its ``objects`` on each line.

``objects`` has the lists ``bbox`` ([x, y, width, height], pixels) and ``category`` (or another of the usual names), or
is a list of such objects. Splits are the folders called train, validation, test on the way to an image. Categories that
are numbers keep them as ids, with the names of ``classes.txt`` or ``labels.txt`` (from 0), else the numbers as names;
names are sorted and numbered from 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category
from aweigh.train.data.class_list import LIST_FILES, listed_names, named_categories
from aweigh.train.data.documents import is_name, read_bytes, read_json, shorten, to_float, whole_number
from aweigh.train.data.file_tree import files_below, id_of
from aweigh.train.data.raw import RawBox, RawImage, RawSplit, categories_in_order
from aweigh.train.data.records import Fault
from aweigh.train.data.split_names import in_usual_order, split_of

FILE_NAME = "metadata.jsonl"
_CATEGORY_KEYS = ("category", "categories", "label", "labels", "class", "classes", "category_id", "class_id", "name")


@dataclass(frozen=True)
class _Line:
    """A line of a file: an image, and its objects as (box, category), or why it cannot be read."""

    file: Path
    number: int
    path: Path
    objects: list[tuple[Any, Any]] | str

    def split(self, root: Path) -> str:
        """That of the image's folder, or of the file's where the image lies elsewhere."""
        return split_of(self.path if self.path.is_relative_to(root) else self.file, root)


def find_splits(root: Path) -> dict[str, Path]:
    """Split name to ``root``; empty where no metadata.jsonl has boxes."""
    lines = list(_lines(root))
    if not any(not isinstance(line.objects, str) and line.objects for line in lines):
        return {}
    return dict.fromkeys(in_usual_order({line.split(root) for line in lines}), root)


def read(root: Path, split: str, _: Path) -> RawSplit:
    """Read one split. Raises BadInput where no category is named."""
    lines = list(_lines(root))
    found = [category for line in lines if not isinstance(line.objects, str) for _, category in line.objects]
    categories, notes = _categories(found, root)
    labels: dict[Any, int] = {c.name: label for label, c in enumerate(categories)}
    labels |= {c.id: label for label, c in enumerate(categories)} if _are_numbers(found) else {}
    images: list[RawImage] = []
    faults: list[Fault] = []
    for line in lines:
        if line.split(root) != split:
            continue
        if isinstance(line.objects, str):
            faults.append(Fault("unreadable-annotation", line.file.name, f"line {line.number}: {line.objects}"))
            continue
        image = RawImage(id_of(line.path, root), line.path)
        for position, (bbox, category) in enumerate(line.objects, start=1):
            where = f"line {line.number}, object {position}"
            key = category if isinstance(category, str) else whole_number(category)
            corners = _corners(bbox)
            if corners is None:
                detail = f"{where}: bbox {shorten(bbox)}, expected [x, y, width, height]"
                faults.append(Fault("unreadable-annotation", image.path.name, detail))
            elif key is None or key not in labels:
                faults.append(Fault("unknown-category", image.path.name, f"{where} has category {shorten(category)}"))
            else:
                image.boxes.append(RawBox(corners, labels[key], where))
        images.append(image)
    return RawSplit(split, categories, images, faults, notes)


def _lines(root: Path) -> Iterator[_Line]:
    for file in files_below(root):
        if file.name == FILE_NAME:
            for number, text in enumerate(read_bytes(file).splitlines(), start=1):
                if text.strip():
                    yield _line(file, number, text)


def _line(file: Path, number: int, text: bytes) -> _Line:
    try:
        item = read_json(text, "line")
    except BadInput as error:
        return _Line(file, number, file, str(error))
    name = item.get("file_name") if isinstance(item, dict) else None
    if not isinstance(name, str) or not name or "\0" in name:
        return _Line(file, number, file, f"expected an object with a file_name, got {shorten(item)}")
    path = file.parent / name
    objects = item.get("objects", [])
    if isinstance(objects, dict):
        boxes, categories = objects.get("bbox", []), _category_of(objects)
        if not isinstance(boxes, list) or not isinstance(categories, list) or len(boxes) != len(categories):
            return _Line(file, number, path, "objects: expected as many categories as boxes")
        return _Line(file, number, path, list(zip(boxes, categories, strict=True)))
    if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
        return _Line(file, number, path, f"objects: expected bbox and category, got {shorten(objects)}")
    return _Line(file, number, path, [(one.get("bbox"), _category_of(one)) for one in objects])


def _category_of(item: dict[str, Any]) -> Any:
    return next((item[key] for key in _CATEGORY_KEYS if key in item), [])


def _are_numbers(categories: list[Any]) -> bool:
    return all(whole_number(category) is not None for category in categories)


def _categories(found: list[Any], root: Path) -> tuple[tuple[Category, ...], list[Fault]]:
    if not _are_numbers(found):
        return named_categories((name for name in found if is_name(name)), root), []
    numbers = sorted({number for category in found if (number := whole_number(category)) is not None})
    file = next((root / name for name in LIST_FILES if (root / name).is_file()), None)
    if file is not None:
        return categories_in_order(enumerate(listed_names(file)), file), []
    note = Fault("no-class-names", str(root), "add classes.txt with a name on each line")
    return categories_in_order([(number, str(number)) for number in numbers], root), [note]


def _corners(bbox: Any) -> tuple[float, float, float, float] | None:
    numbers = [to_float(value) for value in bbox] if isinstance(bbox, list) else []
    known = [value for value in numbers if value is not None]
    if len(numbers) != 4 or len(known) != 4:
        return None
    x, y, width, height = known
    return x, y, x + width, y + height

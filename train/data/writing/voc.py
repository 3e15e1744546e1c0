"""Pascal VOC: ``JPEGImages``, ``Annotations``, lists in ``ImageSets/Main``, and the classes in ``labels.txt``."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from xml.etree import ElementTree

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category
from aweigh.train.data.verify import CheckedImage
from aweigh.train.data.writing.content import (
    Content,
    FreeNames,
    Whole,
    count_coco_only,
    count_other_ids,
    number,
)

_RESERVED = ("__ignore__", "_background_")  # read as no classes


def write(whole: Whole) -> Content:
    """The files of a data set. Raises BadInput where a class has a name that VOC cannot hold, or two have one name."""
    content = Content()
    categories = whole.categories
    _require_names(categories)
    count_other_ids(whole, 1, content.losses)
    names = FreeNames()  # one folder holds the images of all splits
    for name, split in whole.splits.items():
        count_coco_only(split.images, content.losses)
        stems = []
        for image in split.images:
            file_name = names.take(image.raw.path)
            stem = PurePosixPath(file_name).stem
            content.copies[PurePosixPath("JPEGImages", file_name)] = image.raw.path
            content.texts[PurePosixPath("Annotations", f"{stem}.xml")] = _xml(image, file_name, categories, content)
            stems.append(stem)
        # Readers take a list with an underscore for one of a class.
        content.texts[PurePosixPath("ImageSets", "Main", f"{name.replace('_', '-')}.txt")] = "\n".join(stems) + "\n"
    content.texts[PurePosixPath("labels.txt")] = "".join(f"{category.name}\n" for category in categories)
    return content


def _require_names(categories: tuple[Category, ...]) -> None:
    counts = Counter(category.name for category in categories)
    for name, count in counts.items():
        if count > 1:
            raise BadInput(f"--to voc: {count} classes are called {name!r}; VOC knows classes by their names")
        if name != name.strip() or not name.isprintable() or name in _RESERVED:
            raise BadInput(f"--to voc: the class name {name!r} cannot be a line of labels.txt; rename it")


def _xml(image: CheckedImage, file_name: str, categories: tuple[Category, ...], content: Content) -> str:
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", file_name)
    size = ElementTree.SubElement(root, "size")
    height, width = image.facts.size_hw
    for key, value in (("width", width), ("height", height), ("depth", 3)):
        _add(size, key, str(value))
    for box, corners in image.boxes:
        content.losses["crowds, written as difficult"] += box.crowd
        item = ElementTree.SubElement(root, "object")
        _add(item, "name", categories[box.label].name)
        _add(item, "difficult", str(int(box.difficult or box.crowd)))
        place = ElementTree.SubElement(item, "bndbox")
        for key, corner in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            _add(place, key, number(corner))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, key: str, text: str) -> None:
    ElementTree.SubElement(parent, key).text = text

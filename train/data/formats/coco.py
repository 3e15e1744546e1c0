"""COCO JSON: ``annotations/instances_SPLIT.json``, Roboflow's ``SPLIT/_annotations.coco.json``, or ``SPLIT.json``.

Category ids are kept as they are (gaps, any order, up to 64 bits); the label order is the order of ids. JSON has one
kind of number: 7.0 is the id 7. ``iscrowd`` becomes ImageRecord.crowd.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category
from aweigh.train.data.documents import is_name, read_bytes, read_json, shorten, to_float, whole_number
from aweigh.train.data.raw import RawBox, RawImage, RawSplit, categories_in_order
from aweigh.train.data.records import Fault

ROBOFLOW = "_annotations.coco.json"
PLAIN_NAMES = ("train", "val", "valid", "validation", "test", "trainval")


def find_splits(root: Path) -> dict[str, Path]:
    """Split name, as the data set writes it, to its JSON file."""
    official = {p.stem.removeprefix("instances_"): p for p in sorted(root.glob("annotations/instances_*.json"))}
    roboflow = {p.parent.name: p for p in sorted(root.glob(f"*/{ROBOFLOW}"))}
    plain = {
        path.stem: path
        for folder in (root, root / "annotations")
        for path in sorted(folder.glob("*.json"))
        if path.stem.rstrip("0123456789") in PLAIN_NAMES
    }
    return official or roboflow or plain


def read(root: Path, split: str, file: Path) -> RawSplit:
    """Read one JSON file. Raises BadInput where it is no COCO file or has no categories."""
    content = _load(file)
    pairs = [_category(item, file) for item in content["categories"]]
    left_out = _root_category(content, file, root)
    categories = categories_in_order([pair for pair in pairs if pair[0] != left_out], file)
    faults: list[Fault] = []
    notes = [Fault("root-category", file.name, f"{id_} {name!r}") for id_, name in pairs if id_ == left_out]
    images = _images(content["images"], file, faults)
    folder = _image_folder(root, split, file, [image.path for image in images.values()])
    images = {id_: replace(image, path=folder / image.path) for id_, image in images.items()}
    _boxes(content.get("annotations", []), images, categories, file, faults)
    return RawSplit(split, categories, list(images.values()), faults, notes, own=content)


def _load(file: Path) -> dict[str, Any]:
    content = read_json(read_bytes(file), str(file))
    lists = ("images", "categories", "annotations")
    wrong = not isinstance(content, dict) or "images" not in content or "categories" not in content
    if wrong or not all(isinstance(content[key], list) for key in lists if key in content):
        raise BadInput(f"{file}: expected a COCO object with the lists {', '.join(lists)}")
    loaded: dict[str, Any] = content
    return loaded


def _category(item: Any, file: Path) -> tuple[int, str]:
    id_ = whole_number(item.get("id")) if isinstance(item, dict) else None
    if id_ is not None and is_name(item.get("name")):
        return id_, item["name"]
    raise BadInput(
        f"{file}: category {shorten(item)}: expected an object with an integer id and a name, the id within 64 bits"
    )


def _root_category(content: dict[str, Any], file: Path, root: Path) -> int | None:
    """The id of the category that Roboflow adds: all others name it as their supercategory, and it has no object.

    It is looked for in the files of all splits, which would have different classes otherwise.
    """
    for item in content["categories"]:
        others = [other for other in content["categories"] if other is not item]
        root_of_others = others and all(other.get("supercategory") == item["name"] for other in others)
        if root_of_others and item.get("supercategory") in ("none", None):
            id_ = whole_number(item["id"])
            files = {file, *find_splits(root).values()}
            contents = (content if one == file else _load(one) for one in sorted(files))
            return None if any(_has_objects(one, id_) for one in contents) else id_
    return None


def _has_objects(content: dict[str, Any], category_id: int | None) -> bool:
    annotations = content.get("annotations", [])
    return any(isinstance(one, dict) and whole_number(one.get("category_id")) == category_id for one in annotations)


def _images(items: list[Any], file: Path, faults: list[Fault]) -> dict[int | str, RawImage]:
    """Listed images by id, their paths relative."""
    images: dict[int | str, RawImage] = {}
    for position, item in enumerate(items):
        id_ = _id(item, "id")
        name = item.get("file_name") if isinstance(item, dict) else None
        if id_ is None or not isinstance(name, str) or not name:
            detail = f"images[{position}] has no id or no file_name: {shorten(item)}"
            faults.append(Fault("unreadable-annotation", file.name, detail))
            continue
        if id_ in images:
            faults.append(Fault("duplicate-picture", name, f"id {id_} is that of {images[id_].path} already"))
            continue
        height, width = whole_number(item.get("height")) or 0, whole_number(item.get("width")) or 0
        path = Path(name.replace("\\", "/"))  # as programs on Windows write it
        images[id_] = RawImage(id_, path, size_hw=(height, width) if height > 0 and width > 0 else None, own=item)
    return images


def _image_folder(root: Path, split: str, file: Path, names: list[Path]) -> Path:
    """The folder that the file names are relative to: the first, by custom, that holds one of the first images."""
    plain = split.rstrip("0123456789")
    places = [f"{split}", f"images/{split}", f"{plain}", f"images/{plain}", "images", "JPEGImages", "", "data"]
    own = [file.parent, file.parent / "images"]
    folders = own if file.name == ROBOFLOW else list(dict.fromkeys([*(root / place for place in places), *own]))
    for folder in folders:
        if any(os.path.isfile(folder / name) for name in names[:50]):
            return folder
    if names:
        looked_in = ", ".join(map(str, folders))
        raise BadInput(f"{file}: none of its first images ({names[0]!s:.200}, ...) found; looked in {looked_in}")
    return folders[0]


def _boxes(
    items: list[Any],
    images: dict[int | str, RawImage],
    categories: tuple[Category, ...],
    file: Path,
    faults: list[Fault],
) -> None:
    """Give each image its boxes."""
    labels = {c.id: label for label, c in enumerate(categories)}
    seen: set[int | str] = set()
    for position, item in enumerate(items):
        own_id, image_id = _id(item, "id"), _id(item, "image_id")
        where = f"annotations[{position}]" if own_id is None else f"annotation {own_id}"
        if image_id is None:
            faults.append(Fault("unreadable-annotation", file.name, f"{where} has no image_id: {shorten(item)}"))
            continue
        image = images.get(image_id)
        if image is None:
            faults.append(Fault("unknown-picture", file.name, f"{where} is of image {image_id}"))
            continue
        if own_id in seen:
            faults.append(Fault("duplicate-annotation", image.path.name, f"{where} was there before"))
            continue
        if own_id is not None:
            seen.add(own_id)
        category, corners = whole_number(item.get("category_id")), _corners(item.get("bbox"))
        if category is None or category not in labels:
            detail = f"{where} has category {shorten(item.get('category_id'))}"
            faults.append(Fault("unknown-category", image.path.name, detail))
        elif corners is None:
            detail = f"{where}: bbox {shorten(item.get('bbox'))}, expected [x, y, width, height]"
            faults.append(Fault("unreadable-annotation", image.path.name, detail))
        else:
            crowd, area = item.get("iscrowd") in (1, True), to_float(item.get("area"))
            image.boxes.append(RawBox(corners, labels[category], where, area, crowd, own=item))


def _corners(bbox: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    # NaN proper is no JSON: strict writers put null in its place.
    x, y, width, height = (math.nan if value is None else to_float(value) for value in bbox)
    if x is None or y is None or width is None or height is None:
        return None
    return x, y, x + width, y + height


def _id(item: Any, key: str) -> int | str | None:
    """An id of an image or annotation: a whole number or text."""
    value = item.get(key) if isinstance(item, dict) else None
    return value if isinstance(value, str) else whole_number(value)

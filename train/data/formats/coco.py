"""COCO JSON: ``annotations/instances_SPLIT.json``, Roboflow's ``SPLIT/_annotations.coco.json``, or ``SPLIT.json``.

Category ids are kept as they are (gaps, any order, any size); the label order is the order of ids. ``iscrowd`` becomes
ImageRecord.crowd.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category
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
    categories = categories_in_order(pairs, file)
    faults: list[Fault] = []
    images = _images(content["images"], file, faults)
    folder = _image_folder(root, split, file, [image.path for image in images.values()])
    images = {
        id_: RawImage(image.image_id, folder / image.path, image.boxes, image.size_hw) for id_, image in images.items()
    }
    _boxes(content.get("annotations", []), images, categories, file, faults)
    return RawSplit(split, categories, list(images.values()), faults)


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file}: not JSON ({error}); export the annotations again") from error
    lists = ("images", "categories", "annotations")
    wrong = not isinstance(content, dict) or "images" not in content or "categories" not in content
    if wrong or not all(isinstance(content[key], list) for key in lists if key in content):
        raise BadInput(f"{file}: expected a COCO object with the lists {', '.join(lists)}")
    loaded: dict[str, Any] = content
    return loaded


def _category(item: Any, file: Path) -> tuple[int, str]:
    if isinstance(item, dict) and _is_int(item.get("id")) and isinstance(item.get("name"), str):
        return item["id"], item["name"]
    raise BadInput(f"{file}: category {item!r}: expected an object with an integer id and a name")


def _images(items: list[Any], file: Path, faults: list[Fault]) -> dict[int | str, RawImage]:
    """Listed images by id, their paths relative."""
    images: dict[int | str, RawImage] = {}
    for position, item in enumerate(items):
        id_ = item.get("id") if isinstance(item, dict) else None
        name = item.get("file_name") if isinstance(item, dict) else None
        if not (_is_int(id_) or isinstance(id_, str)) or not isinstance(name, str) or not name:
            detail = f"images[{position}] has no id or no file_name: {_short(item)}"
            faults.append(Fault("unreadable-annotation", file.name, detail))
            continue
        if id_ in images:
            faults.append(Fault("duplicate-picture", name, f"id {id_} is that of {images[id_].path} already"))
            continue
        height, width = item.get("height"), item.get("width")
        known = _is_int(height) and _is_int(width) and height > 0 and width > 0
        images[id_] = RawImage(id_, Path(name), size_hw=(height, width) if known else None)
    return images


def _image_folder(root: Path, split: str, file: Path, names: list[Path]) -> Path:
    """The folder that the file names are relative to: the first, by custom, that holds one of the first images."""
    plain = split.rstrip("0123456789")
    places = [f"{split}", f"images/{split}", f"{plain}", f"images/{plain}", "images", "JPEGImages", "", "data"]
    folders = [file.parent] if file.name == ROBOFLOW else [root / place for place in places]
    for folder in folders:
        if any((folder / name).is_file() for name in names[:50]):
            return folder
    if names:
        raise BadInput(
            f"{file}: none of its first images ({names[0]}, ...) found; looked in {', '.join(map(str, folders))}"
        )
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
        id_ = item.get("id") if isinstance(item, dict) else None
        own_id = id_ if _is_int(id_) or isinstance(id_, str) else None
        where = f"annotations[{position}]" if own_id is None else f"annotation {own_id}"
        image_id = item.get("image_id") if isinstance(item, dict) else None
        if not (_is_int(image_id) or isinstance(image_id, str)):
            faults.append(Fault("unreadable-annotation", file.name, f"{where} has no image_id: {_short(item)}"))
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
        category, corners = item.get("category_id"), _corners(item.get("bbox"))
        if not _is_int(category) or category not in labels:
            faults.append(Fault("unknown-category", image.path.name, f"{where} has category {category!r}"))
        elif corners is None:
            detail = f"{where}: bbox {_short(item.get('bbox'))}, expected [x, y, width, height]"
            faults.append(Fault("unreadable-annotation", image.path.name, detail))
        else:
            crowd, area = item.get("iscrowd") in (1, True), item.get("area")
            area = float(area) if isinstance(area, (int, float)) else None
            image.boxes.append(RawBox(corners, labels[category], where, area, crowd))


def _corners(bbox: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    # NaN proper is no JSON: strict writers put null in its place.
    values = [float("nan") if v is None else v for v in bbox]
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return None
    try:
        x, y, width, height = map(float, values)
    except OverflowError:  # an integer of more than 308 digits
        return None
    return x, y, x + width, y + height


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

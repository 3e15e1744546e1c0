"""COCO: ``annotations/instances_SPLIT.json`` and ``images/SPLIT``.

What was read from COCO is written as it was, with all keys of images and annotations; only faulty ones are missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from aweigh.train.data.verify import Checked, CheckedImage, Corners
from aweigh.train.data.writing.content import Content, FreeNames, Whole


def write(whole: Whole) -> Content:
    """The files of a data set."""
    content = Content()
    for name, split in whole.splits.items():
        own = split.raw.own
        result = _from_others(name, split, content) if own is None else _as_read(name, split, own, content)
        text = json.dumps(result)
        content.texts[PurePosixPath("annotations", f"instances_{name}.json")] = text
    return content


def _as_read(name: str, split: Checked, own: Mapping[str, Any], content: Content) -> dict[str, Any]:
    kept = {id(box.own) for image in split.images for box, _ in image.boxes}
    names, images = FreeNames(), []
    for image in split.images:
        item = dict(image.raw.own or {})
        if not _is_below(item["file_name"]):
            item["file_name"] = names.take(image.raw.path)
            content.losses["names of image files outside the data set's folder"] += 1
        content.copies[PurePosixPath("images", name, item["file_name"])] = image.raw.path
        images.append(item)
    annotations = [one for one in own.get("annotations", []) if id(one) in kept]
    return {**own, "images": images, "annotations": annotations}


def _is_below(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts and "\\" not in name


def _from_others(name: str, split: Checked, content: Content) -> dict[str, Any]:
    names = FreeNames()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(split.images, start=1):
        file_name = names.take(image.raw.path)
        content.copies[PurePosixPath("images", name, file_name)] = image.raw.path
        height, width = image.facts.size_hw
        images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        annotations += _annotations(image, image_id, len(annotations) + 1, split, content)
    categories = [{"id": category.id, "name": category.name} for category in split.raw.categories]
    return {"images": images, "annotations": annotations, "categories": categories}


def _annotations(
    image: CheckedImage, image_id: int, first_id: int, split: Checked, content: Content
) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for id_, (box, corners) in enumerate(image.boxes, start=first_id):
        content.losses["difficult objects, written as crowds"] += box.difficult
        x, y, width, height = to_bbox(corners)
        items.append(
            {
                "id": id_,
                "image_id": image_id,
                "category_id": split.raw.categories[box.label].id,
                "bbox": [x, y, width, height],
                "area": width * height if box.area is None else box.area,
                "iscrowd": int(box.crowd or box.difficult),
            }
        )
    return items


def to_bbox(corners: Corners) -> tuple[float, float, float, float]:
    """x, y, width and height: the shortest decimals that give the same corners again."""
    x1, y1, x2, y2 = corners
    return x1, y1, _side(x1, x2), _side(y1, y2)


def _side(low: float, high: float) -> float:
    sides = (round(high - low, digits) for digits in range(16))
    return next((side for side in sides if low + side == high), high - low)

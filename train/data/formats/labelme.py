"""LabelMe: a JSON file for each image, with ``shapes``, ``imagePath`` and the size of the image.

A shape's box is that of its points; a circle has its centre and a point on it. Points and lines without an area are
faults. Splits, classes and images without a file are as in ``voc_folders``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.train.data.class_list import named_categories
from aweigh.train.data.documents import is_name, read_bytes, read_json, shorten, to_float, whole_number
from aweigh.train.data.file_tree import SplitFiles, files_below, id_of, splits_by_folder
from aweigh.train.data.raw import RawBox, RawImage, RawSplit
from aweigh.train.data.records import Fault

_SUFFIX = ".json"


def find_splits(root: Path) -> dict[str, Path]:
    """Split name to ``root``; empty where there is no annotation."""
    return splits_by_folder(root, _SUFFIX, lambda path: isinstance(_load(path), dict))


def read(root: Path, split: str, _: Path) -> RawSplit:
    """Read the images of one split. Raises BadInput where the data set names no class at all."""
    # Every file is parsed, since a single split may lack a class.
    parsed = {path: _load(path) for path in files_below(root) if path.suffix.lower() == _SUFFIX}
    found = [content for content in parsed.values() if isinstance(content, dict)]
    written = (shape.get("label") for content in found for shape in content["shapes"] if isinstance(shape, dict))
    categories = named_categories({name for name in written if is_name(name)}, root)
    labels = {category.name: label for label, category in enumerate(categories)}
    files = SplitFiles.find(root, split, _SUFFIX)
    images: list[RawImage] = []
    faults: list[Fault] = []
    for file in files.annotations:
        content = parsed[file]
        if isinstance(content, str):
            faults.append(Fault("unreadable-annotation", file.name, content))
            continue
        paths = files.images_of(file, content["imagePath"])
        if len(paths) > 1:
            detail = f"there are {', '.join(path.name for path in paths)} for {file.name}"
            faults.append(Fault("ambiguous-image", paths[0].name, detail, paths[0]))
            continue
        height, width = (whole_number(content.get(key)) or 0 for key in ("imageHeight", "imageWidth"))
        size_hw = (height, width) if height > 0 and width > 0 else None
        image = RawImage(id_of(paths[0], root), paths[0], size_hw=size_hw)
        for position, shape in enumerate(content["shapes"], start=1):
            _add(image, shape, f"shape {position}", labels, faults)
        images.append(image)
    return RawSplit(split, categories, images, faults, files.unannotated(image.path for image in images))


def _load(file: Path) -> dict[str, Any] | str:
    """The object of a file, or why there is none."""
    try:
        content = read_json(read_bytes(file), str(file))
    except BadInput as error:
        return str(error)
    if (
        isinstance(content, dict)
        and isinstance(content.get("shapes"), list)
        and isinstance(content.get("imagePath"), str)
    ):
        return content
    return "expected an object with shapes and imagePath"


def _add(image: RawImage, shape: Any, where: str, labels: dict[str, int], faults: list[Fault]) -> None:
    label = shape.get("label") if isinstance(shape, dict) else None
    corners = _corners(shape) if isinstance(shape, dict) else None
    if corners is None:
        detail = f"{where}: {shorten(shape)}, expected a shape with points that span a box"
        faults.append(Fault("unreadable-annotation", image.path.name, detail))
    elif not isinstance(label, str) or label not in labels:
        faults.append(Fault("unknown-category", image.path.name, f"{where} has category {shorten(label)}"))
    else:
        image.boxes.append(RawBox(corners, labels[label], where))


def _corners(shape: dict[str, Any]) -> tuple[float, float, float, float] | None:
    points = shape.get("points")
    xs: list[float] = []
    ys: list[float] = []
    for point in points if isinstance(points, list) else []:
        numbers = [to_float(value) for value in point] if isinstance(point, list) else []
        if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
            return None
        xs.append(numbers[0])
        ys.append(numbers[1])
    if len(xs) < 2:
        return None
    if shape.get("shape_type") == "circle":
        radius = math.dist((xs[0], ys[0]), (xs[1], ys[1]))
        return xs[0] - radius, ys[0] - radius, xs[0] + radius, ys[0] + radius
    return min(xs), min(ys), max(xs), max(ys)

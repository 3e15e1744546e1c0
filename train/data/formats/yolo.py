"""Ultralytics' data sets: a ``data.yaml`` with path, train, val, test and names, and a label file for each image.

Each split is a folder, a list of folders, or a text file of image paths. The label file lies where the image does,
with the last folder ``images`` of its path replaced by ``labels``; no label file means no objects. A line is
``class cx cy w h``, or ``class x1 y1 x2 y2 x3 y3 ...`` (an outline, whose bounding box is taken), all as fractions of
the image. Category ids are the keys of ``names``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.reading import list_images
from aweigh.train.data.raw import RawBox, RawImage, RawSplit, categories_in_order
from aweigh.train.data.records import Fault

SPLIT_KEYS = ("train", "val", "valid", "validation", "test")


def find_splits(file: Path) -> dict[str, Path]:
    """Split name to the yaml file it stands in. Raises BadInput where ``file`` is no such yaml."""
    content = _load(file)
    return {key: file for key in SPLIT_KEYS if content.get(key)}


def read(_: Path, split: str, file: Path) -> RawSplit:
    """Read one split. Raises BadInput for a yaml without names, or a folder or list that is not there."""
    content = _load(file)
    categories = categories_in_order(_names(content.get("names"), file), file)
    labels = {str(c.id): label for label, c in enumerate(categories)}
    root = _root(content, file)
    faults: list[Fault] = []
    images: list[RawImage] = []
    for path in _image_files(content[split], root, split, file):
        image_id = path.relative_to(root) if path.is_relative_to(root) else path
        image = RawImage(image_id.as_posix(), path, unit="fraction")
        _boxes(image, _label_file(path), labels, faults)
        images.append(image)
    return RawSplit(split, categories, images, faults)


def _load(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_bytes())
    except yaml.YAMLError as error:
        raise BadInput(f"{file}: not YAML ({error})") from error
    if not isinstance(content, dict):
        raise BadInput(f"{file}: expected keys such as train, val and names, got {type(content).__name__}")
    return content


def _names(names: Any, file: Path) -> list[tuple[int, str]]:
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(key, int) for key in names):
        raise BadInput(f"{file}: names: expected a list of class names, or integer keys with names, got {names!r}")
    return [(key, str(name)) for key, name in names.items()]


def _root(content: dict[str, Any], file: Path) -> Path:
    """``path`` of the yaml, relative to the yaml's folder."""
    folder = file.absolute().parent
    return folder / str(content["path"]) if content.get("path") else folder


def _image_files(entry: Any, root: Path, split: str, file: Path) -> list[Path]:
    entries = entry if isinstance(entry, list) else [entry]
    files: list[Path] = []
    for item in entries:
        # Roboflow writes ../train/images for a folder next to the yaml.
        places = [root / str(item), root / str(item).removeprefix("../")]
        place = next((p for p in places if p.exists()), None)
        if place is None:
            raise BadInput(f"{file}: {split}: {places[0]} is not there; correct 'path' or {split!r}")
        if place.is_dir():
            files += list_images(place)
        else:
            lines = [line.strip() for line in place.read_text(encoding="utf-8-sig").splitlines()]
            # "./" means the folder of the list, as Ultralytics reads it; other relative paths are the data set's.
            files += [(place.parent if p.startswith("./") else root) / p for p in lines if p]
    return files


def _label_file(path: Path) -> Path:
    parts = list(path.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _boxes(image: RawImage, file: Path, labels: dict[str, int], faults: list[Fault]) -> None:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return
    except UnicodeDecodeError as error:
        faults.append(Fault("unreadable-annotation", file.name, f"expected UTF-8 text ({error})"))
        return
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        where = f"{file.name} line {number}"
        corners = _corners(words[1:])
        category = words[0].removesuffix(".0")
        if corners is None:
            detail = f"{where}: {line.strip()[:80]!r}, expected: class cx cy w h"
            faults.append(Fault("unreadable-annotation", image.path.name, detail))
        elif category not in labels:
            faults.append(Fault("unknown-category", image.path.name, f"{where} has category {category}"))
        else:
            image.boxes.append(RawBox(corners, labels[category], where))


def _corners(words: list[str]) -> tuple[float, float, float, float] | None:
    try:
        values = [float(word) for word in words]
    except ValueError:
        return None
    if len(values) == 4:
        cx, cy, width, height = values
        return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2
    if len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[0::2], values[1::2]
        return min(xs), min(ys), max(xs), max(ys)
    return None

"""Ultralytics' data sets: a ``data.yaml`` with path, train, val, test and names, and a label file for each image.

Each split is a folder, a list of folders, or a text file of image paths. Where the label file of an image lies, see
``yolo_labels``; no label file means no objects, and is noted. A line is ``class cx cy w h``, or
``class x1 y1 x2 y2 x3 y3 ...`` (an outline, whose bounding box is taken), all as fractions of the image. With
``kpt_shape: [K, D]`` in the yaml it is ``class cx cy w h`` and K x D numbers of keypoints, which are not used. Category
ids are the keys of ``names``; the names themselves are kept as they are written.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.listing import list_images
from aweigh.train.data.documents import parse_whole, read_text, read_yaml, shorten
from aweigh.train.data.formats.yolo_images import read_images
from aweigh.train.data.raw import RawSplit, categories_in_order

USUAL_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
SPLIT_KEYS = ("train", "val", "valid", "validation", "test")
# YAML 1.1 reads 010 as 8 and YAML 1.2 as 10: a key is taken where both agree.
_KEY = re.compile(r"0*[0-7]|-?[1-9][0-9]{0,18}|8|9")
_NULL = ("", "~", "null", "Null", "NULL")


def find_yaml(root: Path) -> Path | None:
    """The ``data.yaml`` of a folder: under one of the usual names, or the one YAML file with a split and names."""
    usual = next((root / name for name in USUAL_NAMES if (root / name).is_file()), None)
    return usual or next(filter(_names_a_split, sorted([*root.glob("*.yaml"), *root.glob("*.yml")])), None)


def _names_a_split(file: Path) -> bool:
    try:
        return bool(find_splits(file)) and "names" in _load(file)
    except BadInput:
        return False


def find_splits(file: Path) -> dict[str, Path]:
    """Split name to the yaml file it stands in. Raises BadInput where ``file`` is no such yaml."""
    content = _load(file)
    return {key: file for key in SPLIT_KEYS if content.get(key)}


def read(_: Path, split: str, file: Path) -> RawSplit:
    """Read one split. Raises BadInput for a yaml without names, or a folder or list that is not there."""
    content = _load(file)
    names = _names(content.get("names"), file)
    count = content.get("nc")
    if count is not None and (not isinstance(count, str) or parse_whole(count) != len(names)):
        raise BadInput(
            f"{file}: nc is {shorten(count)}, and names has {len(names)} classes; correct one of them, or leave nc out"
        )
    categories = categories_in_order(names, file)
    keypoints = _keypoints(content.get("kpt_shape"), file)
    root = _root(content, file)
    return read_images(_image_files(content[split], root, split, file), categories, root, split, keypoints)


def _load(file: Path) -> dict[str, Any]:
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise BadInput(f"{file}: expected keys such as train, val and names, got {shorten(content)}")
    return {key: None if isinstance(value, str) and value in _NULL else value for key, value in content.items()}


def _names(names: Any, file: Path) -> list[tuple[int, str]]:
    if isinstance(names, list):
        names = {str(position): name for position, name in enumerate(names)}
    if not isinstance(names, dict) or not all(_KEY.fullmatch(key) for key in names):
        raise BadInput(
            f"{file}: names: expected a list of class names, or integer keys with names, got {shorten(names)}"
        )
    return [(int(key), name) for key, name in names.items()]


def _keypoints(shape: Any, file: Path) -> int | None:
    """How many numbers of keypoints a line has; None where the data set has no keypoints."""
    if shape is None:
        return None
    sides = [parse_whole(side) if isinstance(side, str) else None for side in shape] if isinstance(shape, list) else []
    count, numbers = sides if len(sides) == 2 else (None, None)
    if count is None or not 0 < count <= 10_000 or numbers not in (2, 3):
        raise BadInput(f"{file}: kpt_shape: expected [keypoints, 2 or 3], got {shorten(shape)}")
    return count * numbers


def _root(content: dict[str, Any], file: Path) -> Path:
    """``path`` of the yaml, relative to the yaml's folder."""
    folder, path = file.absolute().parent, content.get("path")
    if path is not None and not isinstance(path, str):
        raise BadInput(f"{file}: path: expected a folder, got {shorten(path)}")
    return folder / path if path else folder


def _image_files(entry: Any, root: Path, split: str, file: Path) -> list[Path]:
    paths: list[Path] = []
    for item in entry if isinstance(entry, list) else [entry]:
        if not isinstance(item, str) or not item:
            raise BadInput(f"{file}: {split}: expected a folder, a list of folders or a text file, got {shorten(item)}")
        # Roboflow writes ../train/images for a folder next to the yaml.
        places = [root / item, root / item.removeprefix("../")]
        place = next((p for p in places if os.path.exists(p)), None)
        if place is None:
            raise BadInput(f"{file}: {split}: {places[0]} is not there; correct 'path' or {split!r}")
        if place.is_dir():
            paths += list_images(place)
        else:
            names = [line.strip() for line in read_text(place).split("\n")]
            # "./" means the folder of the list, as Ultralytics reads it; other relative paths are the data set's.
            paths += [(place.parent if p.startswith("./") else root) / p for p in names if p]
    return paths

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.listing import list_images
from aweigh.train.data.documents import parse_number, parse_whole, read_text, read_yaml, shorten
from aweigh.train.data.formats.yolo_labels import find_label_files
from aweigh.train.data.raw import RawBox, RawImage, RawSplit, categories_in_order
from aweigh.train.data.records import Fault

SPLIT_KEYS = ("train", "val", "valid", "validation", "test")
# YAML 1.1 reads 010 as 8 and YAML 1.2 as 10: a key is taken where both agree.
_KEY = re.compile(r"0*[0-7]|-?[1-9][0-9]{0,18}|8|9")
_NULL = ("", "~", "null", "Null", "NULL")


def find_splits(file: Path) -> dict[str, Path]:
    """Split name to the yaml file it stands in. Raises BadInput where ``file`` is no such yaml."""
    content = _load(file)
    return {key: file for key in SPLIT_KEYS if content.get(key)}


def read(_: Path, split: str, file: Path) -> RawSplit:
    """Read one split. Raises BadInput for a yaml without names, or a folder or list that is not there."""
    content = _load(file)
    categories = categories_in_order(_names(content.get("names"), file), file)
    lines = _Lines({c.id: label for label, c in enumerate(categories)}, _keypoints(content.get("kpt_shape"), file))
    root = _root(content, file)
    paths = _image_files(content[split], root, split, file)
    labels = find_label_files(paths)
    faults = [Fault("unknown-picture", path.name, f"label file {path} belongs to no image") for path in labels.orphans]
    notes: list[Fault] = []
    images: list[RawImage] = []
    for path in paths:
        image_id = path.relative_to(root) if path.is_relative_to(root) else path
        image = RawImage(image_id.as_posix(), path, unit="fraction")
        label_file = labels.files.get(path)
        if label_file is None:
            notes.append(Fault("no-label-file", path.name, f"no {labels.expected(path)}", path))
        else:
            lines.read(image, label_file, faults)
        images.append(image)
    return RawSplit(split, categories, images, faults, notes)


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


@dataclass(frozen=True)
class _Lines:
    """How the lines of label files are read.

    Attributes:
        labels: category id to label.
        keypoints: numbers of keypoints after the box; None for boxes and outlines.
    """

    labels: dict[int, int]
    keypoints: int | None

    def read(self, image: RawImage, file: Path, faults: list[Fault]) -> None:
        """Add the boxes of a label file to its image."""
        try:
            lines = read_text(file).splitlines()
        except BadInput as error:
            faults.append(Fault("unreadable-annotation", file.name, str(error)))
            return
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if not words:
                continue
            where = f"{file.name} line {number}"
            corners = self._corners(words[1:])
            category = parse_whole(words[0])
            if corners is None:
                detail = f"{where}: {line.strip()[:80]!r}, expected: {self._form()}"
                faults.append(Fault("unreadable-annotation", image.path.name, detail))
            elif category is None or category not in self.labels:
                detail = f"{where} has category {words[0][:80]}"
                faults.append(Fault("unknown-category", image.path.name, detail))
            else:
                image.boxes.append(RawBox(corners, self.labels[category], where))

    def _form(self) -> str:
        return "class cx cy w h" + (f", or these and {self.keypoints} numbers of keypoints" if self.keypoints else "")

    def _corners(self, words: list[str]) -> tuple[float, float, float, float] | None:
        try:
            values = [parse_number(word) for word in words]
        except ValueError:
            return None
        if self.keypoints is not None and len(values) == 4 + self.keypoints:
            values = values[:4]
        if len(values) == 4:
            cx, cy, width, height = values
            return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2
        if self.keypoints is None and len(values) >= 6 and len(values) % 2 == 0:
            xs, ys = values[0::2], values[1::2]
            return min(xs), min(ys), max(xs), max(ys)
        return None

"""CrowdHuman: ``annotation_SPLIT.odgt`` (one JSON object a line) and a folder of images named by their ids.

The one class is ``person`` with its full-body box, category id 1. Boxes of another tag (``mask``), and those marked
``ignore``, become ImageRecord.crowd: regions that are neither targets nor false alarms.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.reading import SUFFIXES
from aweigh.runtime.spec import Category
from aweigh.train.data.documents import read_bytes, read_json, shorten, to_float
from aweigh.train.data.raw import RawBox, RawImage, RawSplit
from aweigh.train.data.records import Fault

PERSON = Category(1, "person")
_PREFIX = "annotation_"


def find_splits(root: Path) -> dict[str, Path]:
    """Split name to its file."""
    files = [path for folder in (root, root / "annotations") for path in sorted(folder.glob("*.odgt"))]
    return {path.stem.removeprefix(_PREFIX): path for path in files}


def read(root: Path, split: str, file: Path) -> RawSplit:
    """Read one file. Raises BadInput where none of its images is found."""
    images: list[RawImage] = []
    faults: list[Fault] = []
    files: dict[str, Path] = {}
    for folder in _folders(root, split):
        for path in sorted(folder.glob("*")):
            if path.suffix.lower() in SUFFIXES:
                files.setdefault(path.stem, path)
    seen: set[str] = set()
    for number, line in enumerate(read_bytes(file).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        item = _object(line)
        if item is None:
            detail = f"{where}: expected a JSON object with ID and gtboxes"
            faults.append(Fault("unreadable-annotation", file.name, detail))
            continue
        id_ = item["ID"]
        if id_ in seen:
            faults.append(Fault("duplicate-picture", id_, f"{where}: it was there before"))
            continue
        seen.add(id_)
        if PurePosixPath(id_).is_absolute() or ".." in PurePosixPath(id_).parts:
            detail = f"{where}: ID {shorten(id_)}, expected the name of an image within the data set"
            faults.append(Fault("unreadable-annotation", file.name, detail))
            continue
        if "/" in id_ and (below := _in_subfolder(_folders(root, split), id_)) is not None:
            files[id_] = below
        image = RawImage(id_, files.get(id_, root / "Images" / f"{id_}.jpg"))
        for position, box in enumerate(item["gtboxes"], start=1):
            _add(image, box, f"{where}, box {position}", faults)
        images.append(image)
    if images and not any(image.image_id in files for image in images):
        places = ", ".join(str(folder) for folder in _folders(root, split))
        raise BadInput(f"{file}: none of its images ({images[0].image_id}.jpg, ...) found; looked in {places}")
    return RawSplit(split, (PERSON,), images, faults)


def _folders(root: Path, split: str) -> list[Path]:
    names = ("Images", "images", split, f"Images/{split}", f"images/{split}")
    # The archives of the training images unpack to CrowdHuman_train01/Images and so on.
    unpacked = [path for path in sorted(root.glob(f"CrowdHuman_{split}*")) if path.is_dir()]
    return [*(root / name for name in names), *unpacked, *(path / "Images" for path in unpacked)]


def _in_subfolder(folders: list[Path], id_: str) -> Path | None:
    """The file of an ID with slashes: an image in a subfolder."""
    for folder in folders:
        place = folder / id_
        for name in sorted(os.listdir(place.parent)) if os.path.isdir(place.parent) else []:
            path = place.parent / name
            if path.stem == place.name and path.suffix.lower() in SUFFIXES:
                return path
    return None


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        item = read_json(line, "line")
    except BadInput:
        return None
    well_formed = isinstance(item, dict) and isinstance(item.get("ID"), str) and isinstance(item.get("gtboxes"), list)
    return item if well_formed else None


def _add(image: RawImage, box: Any, where: str, faults: list[Fault]) -> None:
    fbox = box.get("fbox") if isinstance(box, dict) else None
    corners = [to_float(value) for value in fbox] if isinstance(fbox, list) else []
    numbers = [value for value in corners if value is not None]
    if len(corners) != 4 or len(numbers) != 4:
        detail = f"{where}: fbox {shorten(fbox)}, expected [x, y, width, height]"
        faults.append(Fault("unreadable-annotation", image.path.name, detail))
        return
    x, y, width, height = numbers
    extra = box.get("extra")
    ignored = box.get("tag") != PERSON.name or (isinstance(extra, dict) and extra.get("ignore") not in (None, 0))
    image.boxes.append(RawBox((x, y, x + width, y + height), 0, where, crowd=ignored))

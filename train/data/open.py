"""One way into every data set: the format is recognised by what lies in the folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from aweigh.runtime.errors import BadInput
from aweigh.train.data.formats import coco, odgt, voc, yolo
from aweigh.train.data.raw import RawSplit
from aweigh.train.data.records import Split
from aweigh.train.data.verify import Faulty, verify

Reader = Callable[[Path, str, Path], RawSplit]

_ALIASES = {"valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test"}


def load_split(data: str | os.PathLike[str], split: str, faulty: Faulty = "drop", decode: bool = False) -> Split:
    """Read and check one split of a data set.

    Args:
        data: a folder with COCO JSON, Pascal VOC, CrowdHuman's odgt or a ``data.yaml``, or the yaml file itself.
        split: ``train``, ``val``, ``test``, or any name the data set has; ``val``, ``valid``, ``validation`` and
            ``val2017`` are the same name as long as the data set has only one of them.
        faulty: ``drop`` leaves faulty annotations and unreadable images out and lists them in Split.faults;
            ``refuse`` raises.
        decode: decode every image once in full, not only header and end marker.

    Raises:
        BadInput: no such data set or split, a broken file, no categories, no usable image, faults under ``refuse``.

    Example:
        >>> split = load_split(shapes, "val")
        >>> len(split.records), len(split.faults)
        (8, 0)
        >>> [category.name for category in split.categories][:2]
        ['disk', 'square']
        >>> split.records[0].boxes_xyxy.shape[1], split.records[0].size_hw
        (4, (64, 64))
    """
    root, splits, read = _recognise(Path(data))
    name = _resolve(split, splits, data)
    return verify(read(root, name, splits[name]), faulty, decode)


def available_splits(data: str | os.PathLike[str]) -> tuple[str, ...]:
    """Names of the splits, as the data set writes them.

    Args:
        data: as for :func:`load_split`.

    Raises:
        BadInput: no data set is recognised at ``data``.

    Example:
        >>> available_splits(shapes)
        ('test', 'train', 'val')
    """
    return tuple(_recognise(Path(data))[1])


def _recognise(data: Path) -> tuple[Path, Mapping[str, Path], Reader]:
    """The root folder, the splits with the file each is listed in, and the reader."""
    if data.is_file():
        if data.suffix.lower() not in (".yaml", ".yml"):
            raise BadInput(f"{data}: expected a folder or a data.yaml, got another file")
        return data.parent, _some(yolo.find_splits(data), data), yolo.read
    if not data.is_dir():
        raise BadInput(f"{data}: no such folder or file")
    if coco_splits := coco.find_splits(data):
        return data, coco_splits, coco.read
    if voc_splits := voc.find_splits(data):
        return data, voc_splits, voc.read
    if odgt_splits := odgt.find_splits(data):
        return data, odgt_splits, odgt.read
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (data / name).is_file():
            return data, _some(yolo.find_splits(data / name), data / name), yolo.read
    raise BadInput(
        f"{data}: no data set recognised; expected annotations/instances_SPLIT.json, SPLIT/_annotations.coco.json or "
        "SPLIT.json (COCO), JPEGImages + Annotations + ImageSets/Main (Pascal VOC), annotation_SPLIT.odgt "
        "(CrowdHuman), or data.yaml (YOLO)"
    )


def _some(splits: Mapping[str, Path], data: Path) -> Mapping[str, Path]:
    if not splits:
        raise BadInput(f"{data}: names no split; expected the keys train and val, each with a folder of images")
    return splits


def _resolve(split: str, splits: Mapping[str, Path], data: object) -> str:
    if split in splits:
        return split
    same = [name for name in splits if canonical(name) == canonical(split)]
    if len(same) == 1:
        return same[0]
    if same:
        raise BadInput(f"{data}: split {split!r} may be any of {', '.join(same)}; name one of them")
    raise BadInput(f"{data}: no split {split!r}; there is {', '.join(splits)}")


def canonical(name: str) -> str:
    """``val2017``, ``Valid`` and ``validation`` are ``val``."""
    plain = re.sub(r"[-_]?\d+$", "", name.lower())
    return _ALIASES.get(plain, plain)

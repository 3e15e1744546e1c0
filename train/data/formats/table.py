"""The formats that data sets are recognised in: how each is found in a folder or a file, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aweigh.runtime.errors import BadInput
from aweigh.train.data.formats import (
    coco,
    coco_file,
    csv_rows,
    labelme,
    metadata,
    odgt,
    voc,
    voc_folders,
    yolo,
    yolo_folders,
)
from aweigh.train.data.raw import RawSplit


@dataclass(frozen=True)
class Format:
    """One way to lay out annotations and images.

    Attributes:
        name: for messages.
        holds: what a folder of it holds, for messages.
        find_splits: the splits of a folder, each with the file it is listed in, or a folder; empty where it has another
            format.
        read: reads one split: (folder, split, what ``find_splits`` gave for it).
        suffixes: of a file that lists a data set by itself.
        splits_of_file: the splits that such a file lists; raises BadInput where it is of another kind.
        lists_places: its files say where the images lie, which may be anywhere; names of the others are of files in
            the data set's folder.
    """

    name: str
    holds: str
    find_splits: Callable[[Path], Mapping[str, Path]]
    read: Callable[[Path, str, Path], RawSplit]
    suffixes: tuple[str, ...] = ()
    splits_of_file: Callable[[Path], Mapping[str, Path]] = lambda file: {}
    lists_places: bool = False


def _in_yaml(root: Path) -> Mapping[str, Path]:
    file = yolo.find_yaml(root)
    return {} if file is None else _of_yaml(file)


def _of_yaml(file: Path) -> Mapping[str, Path]:
    splits = yolo.find_splits(file)
    if not splits:
        raise BadInput(f"{file}: names no split; expected the keys train and val, each with a folder of images")
    return splits


def _of_odgt(file: Path) -> Mapping[str, Path]:
    return {name: path for name, path in odgt.find_splits(file.parent).items() if path == file}


# The first that finds splits is taken: those that say most about themselves come first.
FORMATS = (
    Format(
        "COCO",
        "annotations/instances_SPLIT.json, SPLIT/_annotations.coco.json or SPLIT.json",
        coco.find_splits,
        coco.read,
    ),
    Format("Pascal VOC", "JPEGImages, Annotations and ImageSets/Main", voc.find_splits, voc.read),
    Format("CrowdHuman", "annotation_SPLIT.odgt", odgt.find_splits, odgt.read, (".odgt",), _of_odgt),
    Format("YOLO", "data.yaml", _in_yaml, yolo.read, (".yaml", ".yml"), _of_yaml, lists_places=True),
    Format(
        "COCO",
        "one COCO JSON of any name",
        coco_file.find_splits,
        coco.read,
        (".json",),
        coco_file.splits_of_file,
    ),
    Format("Hugging Face", "metadata.jsonl with objects", metadata.find_splits, metadata.read),
    Format("LabelMe", "a JSON with shapes for each image", labelme.find_splits, labelme.read),
    Format("Pascal VOC", "images and XML files in any folders", voc_folders.find_splits, voc_folders.read),
    Format(
        "CSV",
        "a table with columns such as filename, xmin, ymin, xmax, ymax, class",
        csv_rows.find_splits,
        csv_rows.read,
        (".csv",),
        csv_rows.splits_of_file,
    ),
    Format(
        "YOLO",
        "images, label files and classes.txt",
        yolo_folders.find_splits,
        yolo_folders.read,
        lists_places=True,
    ),
)

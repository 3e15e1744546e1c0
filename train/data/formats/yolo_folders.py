"""YOLO's label files without a ``data.yaml``: Label Studio's, LabelImg's and CVAT's (``obj.data``) folders, or lists.

The splits are ``train.txt``, ``val.txt`` and so on, lists of image paths, where there are such, or those that
``obj.data`` names; else the folders called train, val(id), test on the way to a label file; else all images are the
split ``all``. The names of the classes are the lines of ``classes.txt``, ``obj.names`` or the like, with ids from 0;
where there is no such file, the numbers in the label files are the names, with a note.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.reading import SUFFIXES
from aweigh.train.data.class_list import LIST_FILES, listed_names
from aweigh.train.data.documents import parse_whole, read_text
from aweigh.train.data.file_tree import files_below
from aweigh.train.data.formats.yolo_images import read_images
from aweigh.train.data.formats.yolo_labels import is_label_file
from aweigh.train.data.raw import RawSplit, categories_in_order
from aweigh.train.data.records import Fault
from aweigh.train.data.split_names import USUAL, canonical, in_usual_order, split_of

_FIRST = 200  # text files that are opened to see whether there are labels
_MOST_CLASSES = 10_000
_NAMES = (*LIST_FILES, "obj.names")


def find_splits(root: Path) -> dict[str, Path]:
    """Split name to its list, or to ``root``; empty where there are no label files."""
    files = files_below(root)
    texts = [path for path in files if path.suffix.lower() == ".txt"]
    if not any(map(is_label_file, texts[:_FIRST])) or not any(path.suffix.lower() in SUFFIXES for path in files):
        return {}
    if lists := dict(_lists(root)):
        return lists
    return dict.fromkeys(in_usual_order({split_of(path, root) for path in texts if is_label_file(path)}), root)


def read(root: Path, split: str, place: Path) -> RawSplit:
    """Read one split: of a list of images, or of the folders of its name. Raises BadInput where no class is named."""
    files = files_below(root)
    if os.path.isfile(place):
        paths = list(_listed(root, place))
    else:
        paths = [path for path in files if path.suffix.lower() in SUFFIXES and split_of(path, root) == split]
    notes: list[Fault] = []
    names_file = next((path for path in files if path.name in _NAMES or path.suffix == ".names"), None)
    if names_file is not None:
        names = listed_names(names_file)
    else:
        names = [str(number) for number in range(_classes(files))]
        notes = [Fault("no-class-names", str(root), "add classes.txt with a name on each line")]
    read = read_images(paths, categories_in_order(enumerate(names), names_file or root), root, split)
    return RawSplit(split, read.categories, read.images, read.faults, [*notes, *read.notes])


def _lists(root: Path) -> Iterator[tuple[str, Path]]:
    for line in _lines(root / "obj.data"):
        key, _, name = (part.strip() for part in line.partition("="))
        if canonical(key) in USUAL and os.path.isfile(path := root / Path(name).name):
            yield key, path
    if not (root / "obj.data").is_file():
        for path in sorted(root.glob("*.txt")):
            first = next(_lines(path), "") if canonical(path.stem) in USUAL else ""
            if Path(first).suffix.lower() in SUFFIXES:
                yield path.stem, path


def _listed(root: Path, file: Path) -> Iterator[Path]:
    """The images of a list: relative to the data set's folder, which CVAT calls ``data``."""
    for line in _lines(file):
        places = [root / line, root / line.removeprefix("data/")]
        yield next((place for place in places if os.path.isfile(place)), places[0])


def _classes(files: list[Path]) -> int:
    """One more than the largest class in the label files."""
    largest = -1
    for path in files:
        if path.suffix.lower() == ".txt" and is_label_file(path):
            numbers = (parse_whole(line.split()[0]) for line in _lines(path))
            largest = max([largest, *(number for number in numbers if number is not None)])
    if largest >= _MOST_CLASSES:
        raise BadInput(f"a label file has class {largest}, and no file has the names of the classes: add classes.txt")
    return largest + 1


def _lines(file: Path) -> Iterator[str]:
    """Lines that are not empty, stripped; none where there is no such file."""
    if file.is_file():
        yield from (line.strip() for line in read_text(file).split("\n") if line.strip())

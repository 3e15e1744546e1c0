"""Where the label files of a YOLO data set lie, and which of them belong to no image.

The label file of an image has its name with the suffix .txt. It lies in the image's folder with the last part
``images`` of the path replaced by ``labels``, or else next to the image. Folders and suffixes may be in any case
(``Labels``, ``.TXT``), and so may the name, where no other image has it exactly.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.listing import walk_folders
from aweigh.runtime.images.reading import SUFFIXES
from aweigh.train.data.documents import parse_number, read_text


@dataclass(frozen=True)
class LabelFiles:
    """Attributes:
    files: image to label file; images without one are left out.
    orphans: label files next to no image.
    """

    files: dict[Path, Path]
    orphans: list[Path]

    @staticmethod
    def expected(path: Path) -> Path:
        """Where the label file of an image should lie."""
        return (_swapped(path.parent) or path.parent) / f"{path.stem}.txt"


def find_label_files(paths: Iterable[Path]) -> LabelFiles:
    """The label files of images, and those that belong to none of the images in their folders."""
    by_folder: dict[Path, list[Path]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path)
    files: dict[Path, Path] = {}
    orphans: dict[Path, None] = {}
    seen: set[Path] = set()
    for folder, own in by_folder.items():
        swapped = _swapped(folder)
        for place in [folder] if swapped is None else [swapped, folder]:
            files |= _matched([path for path in own if path not in files], _texts(place))
        for below, _ in walk_folders(swapped) if swapped is not None and os.path.isdir(swapped) else ():
            if swapped is not None and below not in seen:
                seen.add(below)
                images = _stems([folder / below.relative_to(swapped), below])
                orphans.update(dict.fromkeys(_unmatched(_texts(below), images)))
        if folder not in seen:
            seen.add(folder)
            orphans.update(dict.fromkeys(_unmatched(_texts(folder), _stems([folder]))))
    taken = set(files.values())
    return LabelFiles(files, [path for path in orphans if path not in taken and is_label_file(path)])


def _swapped(folder: Path) -> Path | None:
    """The folder with its last part ``images`` replaced by ``labels``, in the case that lies there."""
    parts = folder.parts
    for i in range(len(parts) - 1, -1, -1):
        if parts[i].lower() == "images":
            parent = Path(*parts[:i])
            there = sorted(p.name for p in _entries(parent) if p.name.lower() == "labels")
            name = "labels" if "labels" in there or not there else there[0]
            return parent.joinpath(name, *parts[i + 1 :])
    return None


def _matched(paths: list[Path], texts: dict[str, Path]) -> dict[Path, Path]:
    exact = {path: texts[path.stem] for path in paths if path.stem in texts}
    others: dict[str, list[Path]] = {}
    stems = {path.stem for path in exact}
    for stem, path in texts.items():
        if stem not in stems:
            others.setdefault(stem.lower(), []).append(path)
    left: dict[str, list[Path]] = {}
    for path in paths:
        if path not in exact:
            left.setdefault(path.stem.lower(), []).append(path)
    return exact | {
        same[0]: others[stem][0] for stem, same in left.items() if len(same) == 1 and len(others.get(stem, ())) == 1
    }


def _texts(folder: Path) -> dict[str, Path]:
    """Stem to text file; of several cases of the suffix, ``.txt``."""
    texts: dict[str, Path] = {}
    for path in _entries(folder):
        if path.suffix.lower() == ".txt" and (path.suffix == ".txt" or path.stem not in texts):
            texts[path.stem] = path
    return texts


def _stems(folders: list[Path]) -> set[str]:
    return {path.stem.lower() for folder in folders for path in _entries(folder) if path.suffix.lower() in SUFFIXES}


def _unmatched(texts: dict[str, Path], images: set[str]) -> Iterator[Path]:
    return (path for stem, path in texts.items() if stem.lower() not in images)


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder))]
    except (OSError, ValueError):  # no such folder: an image that a list names need not be there
        return []


def is_label_file(path: Path) -> bool:
    """Whether the first line is one of numbers: ``classes.txt`` and notes are no labels."""
    try:
        words = next((line.split() for line in read_text(path).splitlines() if line.strip()), [])
        return len(words) >= 5 and all(isinstance(parse_number(word), float) for word in words)
    except (BadInput, ValueError):
        return False

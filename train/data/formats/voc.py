"""Pascal VOC: JPEGImages, Annotations (XML) and ImageSets/Main/SPLIT.txt.

Categories are the names found in *all* XML files of the data set, sorted, with ids from 1: the same for every split.
A ``labels.txt`` or ``classes.txt`` next to the folders (one name a line) fixes names and order instead.

A line of a list is the name of an image, which may have spaces and a suffix; VOC's lists of one class have -1, 0 or 1
after it. Where several image files have that name, ``<filename>`` of the annotation decides.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from aweigh.runtime.images.reading import SUFFIXES
from aweigh.train.data.documents import read_text
from aweigh.train.data.formats.voc_xml import categories_of, image_file, image_of, parse_annotation
from aweigh.train.data.raw import RawImage, RawSplit
from aweigh.train.data.records import Fault


def find_splits(root: Path) -> dict[str, Path]:
    """Split name to its list in ImageSets/Main, of ``root`` or of its one subfolder that has the VOC folders."""
    tree = _tree(root)
    if tree is None:
        return {}
    # aeroplane_train.txt and the like, lists for one class each, are no splits.
    return {p.stem: p for p in sorted((tree / "ImageSets" / "Main").glob("*.txt")) if "_" not in p.stem}


def read(root: Path, split: str, file: Path) -> RawSplit:
    """Read the images of one list. Raises BadInput where the data set names no class at all."""
    tree = _tree(root) or root
    # Every XML file is parsed, since a single split may lack a class.
    files = [path for path in sorted((tree / "Annotations").iterdir()) if path.suffix.lower() == ".xml"]
    parsed = {path.stem: parse_annotation(path) for path in files}
    categories = categories_of(parsed.values(), tree)
    labels = {category.name: label for label, category in enumerate(categories)}
    paths: dict[str, list[Path]] = {}
    for path in sorted((tree / "JPEGImages").iterdir()):
        if path.suffix.lower() in SUFFIXES:
            paths.setdefault(path.stem, []).append(path)

    images: list[RawImage] = []
    faults: list[Fault] = []
    seen: set[str] = set()
    for line in read_text(file).split("\n"):
        if not line.strip():
            continue
        stem = _stem(line.strip(), parsed.keys() | paths.keys())
        if stem in seen:
            faults.append(Fault("duplicate-picture", stem, f"listed before in {file.name}"))
            continue
        seen.add(stem)
        xml = parsed.get(stem)
        if isinstance(xml, ElementTree.Element):
            chosen = image_file(paths.get(stem) or [tree / "JPEGImages" / f"{stem}.jpg"], xml, faults)
            if chosen is not None:
                images.append(image_of(stem, chosen, xml, labels, faults))
        elif xml is None:
            faults.append(Fault("missing-annotation", f"{stem}.xml", f"listed in {file.name}, not in Annotations"))
        else:
            faults.append(Fault("unreadable-annotation", f"{stem}.xml", xml))
    return RawSplit(split, categories, images, faults)


def _tree(root: Path) -> Path | None:
    for folder in (root, *sorted(p for p in root.iterdir() if p.is_dir())):
        if all((folder / name).is_dir() for name in ("JPEGImages", "Annotations", "ImageSets/Main")):
            return folder
    return None


def _stem(line: str, known: set[str]) -> str:
    """The name of the image that a line of a list is about, without suffix."""
    unmarked = re.sub(r"\s+(-1|[01])$", "", line)
    for name in (line, unmarked):
        for stem in (name, Path(name).stem if Path(name).suffix.lower() in SUFFIXES else name):
            if stem in known:
                return stem
    return unmarked

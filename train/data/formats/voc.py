"""Pascal VOC: JPEGImages, Annotations (XML) and ImageSets/Main/SPLIT.txt.

Categories are the names found in *all* XML files of the data set, sorted, with ids from 1: the same for every split.
A ``labels.txt`` or ``classes.txt`` next to the folders (one name a line) fixes names and order instead.

Corners are taken as they stand in the file. VOC's own devkit counted pixels from 1 and inclusively (the left edge would
be xmin - 1), but most VOC files are written by tools that store continuous corners, which that correction would widen;
either way the difference is at most one pixel. ``difficult`` becomes ImageRecord.difficult.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.reading import SUFFIXES
from aweigh.train.data.raw import RawBox, RawImage, RawSplit, categories_in_order
from aweigh.train.data.records import Fault

LABEL_FILES = ("labels.txt", "classes.txt")


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
    parsed = {path.stem: _parse(path) for path in sorted((tree / "Annotations").glob("*.xml"))}
    labels_file = next((tree / name for name in LABEL_FILES if (tree / name).is_file()), None)
    if labels_file is not None:
        names = [line.strip() for line in _text(labels_file).splitlines() if line.strip()]
    else:
        trees = [xml for xml in parsed.values() if isinstance(xml, ElementTree.Element)]
        names = sorted({_field(item, "name") for xml in trees for item in xml.iter("object")} - {""})
    categories = categories_in_order(enumerate(names, start=1), labels_file or tree / "Annotations")
    labels = {name: label for label, name in enumerate(names)}
    files = {p.stem: p for p in sorted((tree / "JPEGImages").iterdir()) if p.suffix.lower() in SUFFIXES}

    images: list[RawImage] = []
    faults: list[Fault] = []
    seen: set[str] = set()
    for line in _text(file).splitlines():
        if not line.strip():
            continue
        stem = line.split()[0]
        if stem in seen:
            faults.append(Fault("duplicate-picture", stem, f"listed before in {file.name}"))
            continue
        seen.add(stem)
        path = files.get(stem, tree / "JPEGImages" / f"{stem}.jpg")
        xml = parsed.get(stem)
        if isinstance(xml, ElementTree.Element):
            images.append(_image(stem, path, xml, labels, faults))
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


def _parse(path: Path) -> ElementTree.Element | str:
    """The root element, or why there is none."""
    try:
        return ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an encoding Python does not know
        return f"not XML ({error})"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: expected UTF-8 text ({error})") from error


def _image(stem: str, path: Path, xml: ElementTree.Element, labels: dict[str, int], faults: list[Fault]) -> RawImage:
    try:
        size: tuple[int, int] | None = (int(_field(xml, "size/height")), int(_field(xml, "size/width")))
    except ValueError:
        size = None
    # Some tools write 0 for a size they do not know.
    image = RawImage(stem, path, size_hw=size if size and min(size) > 0 else None)
    for position, item in enumerate(xml.iter("object"), start=1):
        where, name = f"object {position}", _field(item, "name")
        if name not in labels:
            faults.append(Fault("unknown-category", path.name, f"{where} has category {name!r}"))
            continue
        corners = [_field(item, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x1, y1, x2, y2 = map(float, corners)
        except ValueError:
            detail = f"{where}: bndbox {corners}, expected four numbers xmin ymin xmax ymax"
            faults.append(Fault("unreadable-annotation", path.name, detail))
            continue
        difficult = _field(item, "difficult").lower() in ("1", "true")
        image.boxes.append(RawBox((x1, y1, x2, y2), labels[name], where, difficult=difficult))
    return image


def _field(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()

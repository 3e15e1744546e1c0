"""Pascal VOC: JPEGImages, Annotations (XML) and ImageSets/Main/SPLIT.txt.

Categories are the names found in *all* XML files of the data set, sorted, with ids from 1: the same for every split.
A ``labels.txt`` or ``classes.txt`` next to the folders (one name a line) fixes names and order instead.

A line of a list is the name of an image, which may have spaces and a suffix; VOC's lists of one class have -1, 0 or 1
after it. Where several image files have that name, ``<filename>`` of the annotation decides.

Corners are taken as they stand in the file. VOC's own devkit counted pixels from 1 and inclusively (the left edge would
be xmin - 1), but most VOC files are written by tools that store continuous corners, which that correction would widen;
either way the difference is at most one pixel. ``difficult`` becomes ImageRecord.difficult.
"""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.reading import SUFFIXES
from aweigh.train.data.documents import is_name, parse_number, parse_whole, read_bytes, read_text
from aweigh.train.data.raw import RawBox, RawImage, RawSplit, categories_in_order
from aweigh.train.data.records import Fault

LABEL_FILES = ("labels.txt", "classes.txt")
_ROOT = "annotation"


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
    parsed = {path.stem: _parse(path) for path in files}
    labels_file = next((tree / name for name in LABEL_FILES if (tree / name).is_file()), None)
    if labels_file is not None:
        names = [line.strip() for line in read_text(labels_file).splitlines() if line.strip()]
    else:
        trees = [xml for xml in parsed.values() if isinstance(xml, ElementTree.Element)]
        names = sorted(filter(is_name, {_field(item, "name") for xml in trees for item in xml.iter("object")}))
    categories = categories_in_order(enumerate(names, start=1), labels_file or tree / "Annotations")
    labels = {name: label for label, name in enumerate(names)}
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
            image_file = _image_file(paths.get(stem) or [tree / "JPEGImages" / f"{stem}.jpg"], xml, faults)
            if image_file is not None:
                images.append(_image(stem, image_file, xml, labels, faults))
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


def _image_file(paths: list[Path], xml: ElementTree.Element, faults: list[Fault]) -> Path | None:
    """The image file of an annotation; None, and a fault, where its ``<filename>`` has to decide and does not."""
    if len(paths) == 1:
        return paths[0]
    filename = PureWindowsPath(_field(xml, "filename")).name  # splits at / and at \
    named = [path for path in paths if path.name == filename]
    named = named or [path for path in paths if path.name.lower() == filename.lower()]
    if len(named) == 1:
        return named[0]
    names = ", ".join(path.name for path in paths)
    detail = f"there are {names}; <filename> is {filename[:80]!r}"
    faults.append(Fault("ambiguous-image", paths[0].name, detail, paths[0]))
    return None


def _parse(path: Path) -> ElementTree.Element | str:
    """The root element, its tags in lower case and without namespaces, or why there is none."""
    try:
        root = ElementTree.fromstring(read_bytes(path))
    except BadInput as error:
        return str(error)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an encoding Python does not know
        return f"not XML ({error})"
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2].lower()
    return root if root.tag == _ROOT else f"expected <{_ROOT}> at the root, got <{root.tag[:80]}>"


def _image(stem: str, path: Path, xml: ElementTree.Element, labels: dict[str, int], faults: list[Fault]) -> RawImage:
    height, width = (parse_whole(_field(xml, f"size/{side}")) or 0 for side in ("height", "width"))
    # Some tools write 0 for a size they do not know.
    image = RawImage(stem, path, size_hw=(height, width) if height > 0 and width > 0 else None)
    for position, item in enumerate(xml.iter("object"), start=1):
        where, name = f"object {position}", _field(item, "name")
        if name not in labels:
            faults.append(Fault("unknown-category", path.name, f"{where} has category {name[:80]!r}"))
            continue
        corners = [_field(item, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x1, y1, x2, y2 = map(parse_number, corners)
        except ValueError:
            got = [corner[:20] for corner in corners]
            detail = f"{where}: bndbox {got}, expected four numbers xmin ymin xmax ymax"
            faults.append(Fault("unreadable-annotation", path.name, detail))
            continue
        difficult = _field(item, "difficult").lower() in ("1", "true")
        image.boxes.append(RawBox((x1, y1, x2, y2), labels[name], where, difficult=difficult))
    return image


def _field(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()

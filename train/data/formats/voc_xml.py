"""One Pascal VOC annotation: an XML file with the objects of an image.

Corners are taken as they stand in the file. VOC's own devkit counted pixels from 1 and inclusively (the left edge would
be xmin - 1), but most VOC files are written by tools that store continuous corners, which that correction would widen;
either way the difference is at most one pixel. ``difficult`` becomes ImageRecord.difficult.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import TypeAlias
from xml.etree import ElementTree

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category
from aweigh.train.data.class_list import named_categories
from aweigh.train.data.documents import parse_number, parse_whole, read_bytes
from aweigh.train.data.raw import RawBox, RawImage
from aweigh.train.data.records import Fault

_ROOT = "annotation"
Annotation: TypeAlias = ElementTree.Element | str  # the root element, or why there is none


def categories_of(annotations: Iterable[Annotation], root: Path) -> tuple[Category, ...]:
    """The classes of a data set: as its list of names has them, else all names in its annotations, ids from 1."""
    trees = [xml for xml in annotations if isinstance(xml, ElementTree.Element)]
    return named_categories({field(item, "name") for xml in trees for item in xml.iter("object")}, root)


def image_file(paths: list[Path], xml: ElementTree.Element, faults: list[Fault]) -> Path | None:
    """The image file of an annotation; None, and a fault, where its ``<filename>`` has to decide and does not."""
    if len(paths) == 1:
        return paths[0]
    filename = PureWindowsPath(field(xml, "filename")).name  # splits at / and at \
    named = [path for path in paths if path.name == filename]
    named = named or [path for path in paths if path.name.lower() == filename.lower()]
    if len(named) == 1:
        return named[0]
    names = ", ".join(path.name for path in paths)
    detail = f"there are {names}; <filename> is {filename[:80]!r}"
    faults.append(Fault("ambiguous-image", paths[0].name, detail, paths[0]))
    return None


def parse_annotation(path: Path) -> Annotation:
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


def image_of(
    image_id: str, path: Path, xml: ElementTree.Element, labels: dict[str, int], faults: list[Fault]
) -> RawImage:
    """The image of an annotation with its boxes."""
    height, width = (parse_whole(field(xml, f"size/{side}")) or 0 for side in ("height", "width"))
    # Some tools write 0 for a size they do not know.
    image = RawImage(image_id, path, size_hw=(height, width) if height > 0 and width > 0 else None)
    for position, item in enumerate(xml.iter("object"), start=1):
        where, name = f"object {position}", field(item, "name")
        if name not in labels:
            faults.append(Fault("unknown-category", path.name, f"{where} has category {name[:80]!r}"))
            continue
        corners = [field(item, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x1, y1, x2, y2 = map(parse_number, corners)
        except ValueError:
            got = [corner[:20] for corner in corners]
            detail = f"{where}: bndbox {got}, expected four numbers xmin ymin xmax ymax"
            faults.append(Fault("unreadable-annotation", path.name, detail))
            continue
        difficult = field(item, "difficult").lower() in ("1", "true")
        image.boxes.append(RawBox((x1, y1, x2, y2), labels[name], where, difficult=difficult))
    return image


def field(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()

"""Pascal VOC's XML without lists: LabelImg's files next to the images, Roboflow's folders, Annotations + JPEGImages.

The splits are the folders called train, val(id), test on the way to a file; without such folders all files are the
split ``all``. An XML file belongs to the image of its name in the same folder, else to the one in another folder of the
split, else to the one that ``<filename>`` names. Categories are as in ``voc``: the sorted names of all XML files, or
the lines of ``labels.txt`` or ``classes.txt``. An image without an XML file is not annotated yet, and left out with a
note: an image without objects has an XML file without objects.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from aweigh.train.data.file_tree import SplitFiles, files_below, id_of, splits_by_folder
from aweigh.train.data.formats.voc_xml import categories_of, field, image_file, image_of, parse_annotation
from aweigh.train.data.raw import RawImage, RawSplit
from aweigh.train.data.records import Fault


def find_splits(root: Path) -> dict[str, Path]:
    """Split name to ``root``; empty where there is no annotation."""
    return splits_by_folder(root, ".xml", lambda path: isinstance(parse_annotation(path), ElementTree.Element))


def read(root: Path, split: str, _: Path) -> RawSplit:
    """Read the images of one split. Raises BadInput where the data set names no class at all."""
    # Every XML file is parsed, since a single split may lack a class.
    parsed = {path: parse_annotation(path) for path in files_below(root) if path.suffix.lower() == ".xml"}
    categories = categories_of(parsed.values(), root)
    labels = {category.name: label for label, category in enumerate(categories)}
    files = SplitFiles.find(root, split, ".xml")
    images: list[RawImage] = []
    faults: list[Fault] = []
    for file in files.annotations:
        xml = parsed[file]
        if not isinstance(xml, ElementTree.Element):
            faults.append(Fault("unreadable-annotation", file.name, xml))
            continue
        path = image_file(files.images_of(file, field(xml, "filename")), xml, faults)
        if path is not None:
            images.append(image_of(id_of(path, root), path, xml, labels, faults))
    return RawSplit(split, categories, images, faults, files.unannotated(image.path for image in images))

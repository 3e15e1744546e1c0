"""Tables with a box in each row: an image, a box and a class, in columns that are recognised by their names.

The image is a file name, a path, or a name without suffix. The box is four corners (``xmin`` ..., ``x1`` ..., ``left``
...), a corner with width and height, or ``bbox`` ([x, y, width, height]); where no number exceeds 1 they are fractions
of the image. A row without a box is an image without objects. A file without a header has image, x1, y1, x2, y2, class.
Splits are the values of a column ``split``, else a word of the file's name (``train_labels.csv``), else its folder.
Classes are sorted and numbered from 1, or as ``labels.txt`` or ``classes.txt`` lists them; where no column has them,
there is one, ``object``.
"""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.reading import SUFFIXES
from aweigh.train.data.class_list import named_categories
from aweigh.train.data.documents import parse_number, parse_whole, read_text
from aweigh.train.data.file_tree import files_below, id_of
from aweigh.train.data.raw import RawBox, RawImage, RawSplit
from aweigh.train.data.records import Fault
from aweigh.train.data.split_names import ALL, in_usual_order, root_of, split_in_stem, split_of

_DELIMITERS = (",", ";", "\t")
_IMAGE = ("filename", "file", "image", "imagepath", "path", "imagename", "imageid", "img", "filepath", "imgpath")
_CLASS = ("class", "label", "category", "classname", "labelname", "categoryname", "species", "classid", "categoryid")
_SPLIT = ("split", "set", "subset")
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
    ("bboxx1", "bboxy1", "bboxx2", "bboxy2"),
)
_CORNER_AND_SIZE = (
    ("xmin", "ymin", "width", "height"),
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("left", "top", "width", "height"),
    ("bboxx", "bboxy", "bboxwidth", "bboxheight"),
    ("bboxx", "bboxy", "bboxw", "bboxh"),
)
_BOX = ("bbox", "box", "boundingbox")
_SIZES = (("height", "width"), ("imageheight", "imagewidth"), ("imgheight", "imgwidth"))
_NO_HEADER = ("filename", *_CORNERS[0], "class")
_ONLY_CLASS = "object"


@dataclass(frozen=True)
class _Row:
    """One line: ``numbers`` is the box as text, corners or (x, y, width, height); empty where it has none."""

    line: int
    image: str
    numbers: tuple[str, ...]
    is_size: bool
    name: str
    split: str
    size_hw: tuple[int, int] | None


def find_splits(root: Path) -> dict[str, Path]:
    """Split name to its file; empty where no file has the columns of an image and its boxes."""
    files: dict[Path, dict[str, Path]] = {}
    for file in files_below(root):
        if file.suffix.lower() == ".csv":
            with suppress(BadInput):
                files[file] = splits_of_file(file, root)
    names = [name for splits in files.values() for name in splits]
    if len(set(names)) < len(names):  # several files of no or of one split
        files = {file: {file.relative_to(root).with_suffix("").as_posix(): file} for file in files}
    found = {name: file for splits in files.values() for name, file in splits.items()}
    return {name: found[name] for name in in_usual_order(set(found))}


def splits_of_file(file: Path, root: Path | None = None) -> dict[str, Path]:
    """The splits of one file. Raises BadInput where it has other columns, or no row."""
    names = {row.split for row in _rows(file)}
    if not names:
        raise BadInput(f"{file}: expected a row for each box, got none")
    own = split_in_stem(file.stem)
    own = split_of(file, root or root_of(file)) if own == ALL else own
    return {name or own: file for name in sorted(names)}


def read(root: Path, split: str, file: Path) -> RawSplit:
    """Read one split. Raises BadInput where the file has other columns, or nothing in it has a class."""
    # The classes of all files, since a single split may lack one.
    files = dict.fromkeys([file, *find_splits(root).values()])
    rows = {one: list(_rows(one)) for one in files}
    categories = named_categories((row.name for one in files for row in rows[one] if row.numbers), root)
    labels = {category.name: label for label, category in enumerate(categories)}
    paths = _ImageFiles.below(root)
    images: dict[Path, RawImage] = {}
    faults: list[Fault] = []
    is_fraction = _are_fractions(rows[file])
    named = {row.split for row in rows[file]}
    for row in rows[file]:
        if row.split != (split if split in named else ""):
            continue
        places = paths.find(row.image, file, split)
        if len(places) > 1:
            detail = f"line {row.line}: {row.image!r} may be {', '.join(map(str, places[:3]))}"
            faults.append(Fault("ambiguous-image", places[0].name, detail, places[0]))
            continue
        path = places[0]
        if path not in images:
            images[path] = RawImage(
                id_of(path, root), path, size_hw=row.size_hw, unit="fraction" if is_fraction else "px"
            )
        _add(images[path], row, labels, faults)
    return RawSplit(split, categories, list(images.values()), faults)


def _add(image: RawImage, row: _Row, labels: dict[str, int], faults: list[Fault]) -> None:
    if not row.numbers:
        return
    where = f"line {row.line}"
    try:
        x1, y1, x2, y2 = map(parse_number, row.numbers)
    except ValueError:
        detail = f"{where}: {[number[:20] for number in row.numbers]}, expected the four numbers of a box"
        faults.append(Fault("unreadable-annotation", image.path.name, detail))
        return
    if row.name not in labels:
        faults.append(Fault("unknown-category", image.path.name, f"{where} has category {row.name[:80]!r}"))
        return
    corners = (x1, y1, x1 + x2, y1 + y2) if row.is_size else (x1, y1, x2, y2)
    image.boxes.append(RawBox(corners, labels[row.name], where))


def _are_fractions(rows: Sequence[_Row]) -> bool:
    largest = 0.0
    for row in rows:
        try:
            largest = max([largest, *map(parse_number, row.numbers)])
        except ValueError:
            continue
    return 0 < largest <= 1


def _rows(file: Path) -> Iterator[_Row]:
    """The rows of a file. Raises BadInput where its columns are not those of images and boxes."""
    text = read_text(file)
    for delimiter in _DELIMITERS:
        try:
            table = list(csv.reader(text.splitlines(), delimiter=delimiter))
        except csv.Error as error:
            raise BadInput(f"{file}: not CSV ({error})") from error
        header = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in table[0]] if table else []
        if _has_boxes(header):
            yield from _cells(header, table[1:], first_line=2)
            return
        if table and _is_row(table[0]):
            yield from _cells(_NO_HEADER, table, first_line=1)
            return
    raise BadInput(
        f"{file}: expected the columns of images and boxes, such as filename, xmin, ymin, xmax, ymax, class; got "
        f"{', '.join(next(csv.reader(text.splitlines()), []))[:200] or 'an empty file'}"
    )


def _has_boxes(header: Sequence[str]) -> bool:
    boxes = (*_CORNERS, *_CORNER_AND_SIZE, *((name,) for name in _BOX))
    return _first(header, _IMAGE) is not None and any(set(names) <= set(header) for names in boxes)


def _is_row(cells: Sequence[str]) -> bool:
    """Whether this is a row of a file without a header, or an image alone in one."""
    if len(cells) != len(_NO_HEADER) or Path(cells[0]).suffix.lower() not in SUFFIXES:
        return False
    numbers = [parse_whole(cell) is not None or re.fullmatch(r"[0-9.]+", cell) for cell in cells[1:5]]
    return all(numbers) or not any(cells[1:])


def _cells(header: Sequence[str], table: Sequence[Sequence[str]], first_line: int) -> Iterator[_Row]:
    columns = {name: header.index(name) for name in header}
    corners = next((names for names in _CORNERS if set(names) <= columns.keys()), None)
    sized = next((names for names in _CORNER_AND_SIZE if set(names) <= columns.keys()), None)
    box, image, label = _first(header, _BOX), _first(header, _IMAGE) or "", _first(header, _CLASS)
    used = corners or sized or ()
    size = next((names for names in _SIZES if set(names) <= columns.keys() - set(used)), None)
    split = _first(header, _SPLIT)
    for line, cells in enumerate(table, start=first_line):

        def cell(name: str | None, cells: Sequence[str] = cells) -> str:
            return cells[columns[name]].strip() if name is not None and columns[name] < len(cells) else ""

        numbers = tuple(map(cell, used)) if used else tuple(re.findall(r"[^\s,\[\]()]+", cell(box)))
        if not cell(image):
            continue
        height, width = (parse_whole(cell(name)) or 0 for name in size) if size else (0, 0)
        yield _Row(
            line=line,
            image=cell(image),
            numbers=numbers if any(numbers) else (),
            is_size=corners is None,
            name=cell(label) if label is not None else _ONLY_CLASS,
            split=cell(split),
            size_hw=(height, width) if height > 0 and width > 0 else None,
        )


def _first(header: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in header), None)


@dataclass(frozen=True)
class _ImageFiles:
    """The image files of a data set by name and by stem."""

    root: Path
    by_name: dict[str, list[Path]]

    @staticmethod
    def below(root: Path) -> _ImageFiles:
        by_name: dict[str, list[Path]] = defaultdict(list)
        for path in files_below(root):
            if path.suffix.lower() in SUFFIXES:
                by_name[path.name].append(path)
                if path.stem != path.name:
                    by_name[path.stem].append(path)
        return _ImageFiles(root, dict(by_name))

    def find(self, text: str, table: Path, split: str) -> list[Path]:
        """The file that a row names; several where it may be any of them, one that is not there where none fits."""
        name = text.replace("\\", "/")
        for place in (table.parent / name, self.root / name):
            if os.path.isfile(place):  # False for a name that no file can have
                return [place]
        same = self.by_name.get(Path(name).name, [])
        own = [path for path in same if split_of(path, self.root) == split]
        return own or same or [table.parent / name]

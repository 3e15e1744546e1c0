"""What lies in a folder in which no data set was recognised, and what would make it one."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.reading import SUFFIXES
from aweigh.train.data.documents import read_bytes, read_json, read_text
from aweigh.train.data.file_tree import files_below
from aweigh.train.data.formats.table import FORMATS

_MOST_KINDS = 6
_MOST_KEYS = 8
_DESCRIBED = (".json", ".xml", ".csv")


def unrecognised(root: Path) -> BadInput:
    """The error for a folder: what is in it, what is missing, and what would be read."""
    files = files_below(root)
    if not files:
        return BadInput(f"{root}: no data set recognised: the folder is empty")
    read = "; ".join(f"{one.name}: {one.holds}" for one in FORMATS)
    parts = [f"{root}: no data set recognised. There are {_counted(files)}", *_examples(files, root)]
    if inner := _inner(root):
        parts.append(f"a data set lies in {', '.join(map(str, inner))}: give that folder with --data")
    elif not any(_is_image(path) for path in files):
        parts.append("there are no images")
    elif all(_is_image(path) for path in files):
        parts.append("there are no annotations: export them from the labelling tool, as COCO, Pascal VOC or YOLO")
    return BadInput("; ".join(parts) + f". What is read: {read}")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _counted(files: list[Path]) -> str:
    counts = Counter("images" if _is_image(path) else f"{path.suffix.lower() or 'other'} files" for path in files)
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common(_MOST_KINDS))


def _examples(files: list[Path], root: Path) -> list[str]:
    """The first file of each kind that annotations come in, with what is at its beginning."""
    lines = []
    for suffix in _DESCRIBED:
        file = next((path for path in files if path.suffix.lower() == suffix), None)
        if file is not None:
            lines.append(f"{file.relative_to(root)} {_described(file)}")
    return lines


def _described(file: Path) -> str:
    try:
        if file.suffix.lower() == ".json":
            content = read_json(read_bytes(file), "")
            if not isinstance(content, dict):
                return f"is a JSON {'list' if isinstance(content, list) else 'value'}, not an object"
            return f"has the keys {', '.join(list(content)[:_MOST_KEYS]) or 'none'}"
        if file.suffix.lower() == ".xml":
            tag = ElementTree.fromstring(read_bytes(file)).tag
            advice = " (CVAT for images? export as COCO 1.0)" if tag == "annotations" else ""
            return f"has the root <{tag[:80]}>{advice}"
        header = next(csv.reader(read_text(file).splitlines()), [])
        return f"has the columns {', '.join(header[:_MOST_KEYS])[:200]}"
    except (BadInput, ElementTree.ParseError, ValueError, LookupError, csv.Error):
        return "cannot be read"


def _inner(root: Path) -> list[Path]:
    """Subfolders in which a data set is recognised."""
    found = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            if any(one.find_splits(folder) for one in FORMATS):
                found.append(folder)
        except BadInput:
            continue
    return found

"""The classes of a data set whose annotations name them: in the order of a list next to them, else sorted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aweigh.runtime.spec import Category
from aweigh.train.data.documents import is_name, read_text
from aweigh.train.data.raw import categories_in_order

LIST_FILES = ("labels.txt", "classes.txt")
_NO_CLASSES = ("__ignore__", "_background_")  # the first lines of labelme's labels.txt


def listed_names(file: Path) -> list[str]:
    """One name a line. Raises BadInput where the file cannot be read."""
    names = (line.strip() for line in read_text(file).splitlines())
    return [name for name in names if name and name not in _NO_CLASSES]


def named_categories(names: Iterable[str], root: Path) -> tuple[Category, ...]:
    """Categories with ids from 1: as ``labels.txt`` or ``classes.txt`` in ``root`` lists them, else ``names``, sorted.

    Raises BadInput where there is none.
    """
    file = next((root / name for name in LIST_FILES if (root / name).is_file()), None)
    ordered = sorted(filter(is_name, set(names))) if file is None else listed_names(file)
    return categories_in_order(enumerate(ordered, start=1), file or root)

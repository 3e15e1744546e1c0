"""Names of splits: which words mean the same, and which split a file of a data set belongs to."""

from __future__ import annotations

import re
from pathlib import Path

ALL = "all"  # the one split of a data set that is not split
USUAL = ("train", "val", "test")
ANNOTATION_FOLDERS = ("annotations", "Annotations")
_ALIASES = {"valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test"}


def canonical(name: str) -> str:
    """``val2017``, ``Valid`` and ``validation`` are ``val``."""
    plain = re.sub(r"[-_]?\d+$", "", name.lower())
    return _ALIASES.get(plain, plain)


def split_of(file: Path, root: Path) -> str:
    """The split that a folder on the way from ``root`` to a file names, as the data set writes it; else ``all``.

    Example:
        >>> split_of(Path("set/images/Valid/a.jpg"), Path("set")), split_of(Path("set/images/a.jpg"), Path("set"))
        ('Valid', 'all')
    """
    return next((part for part in file.relative_to(root).parts[:-1] if canonical(part) in USUAL), ALL)


def root_of(file: Path) -> Path:
    """The folder of the data set that a list of images and annotations belongs to."""
    return file.parent.parent if file.parent.name in ANNOTATION_FOLDERS else file.parent


def split_in_stem(stem: str) -> str:
    """The split that a word of a file name names, ``train`` of ``train_labels``; else ``all``."""
    return next((word for word in re.split(r"[^A-Za-z0-9]+", stem) if canonical(word) in USUAL), ALL)


def in_usual_order(names: set[str]) -> list[str]:
    """Names of splits: train, val and test first."""
    return sorted(names, key=lambda name: (_rank(canonical(name)), name))


def _rank(usual: str) -> int:
    return USUAL.index(usual) if usual in USUAL else len(USUAL)

"""The image files of a folder or a pattern, each once, whatever links lie in it."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.reading import SUFFIXES, VIDEO_SUFFIXES

_ANY_DEPTH = "**"


def list_images(source: str | os.PathLike[str], *, videos: bool = False) -> list[Path]:
    """The images (with ``videos`` also the videos) of a file name, a folder or a glob pattern, sorted.

    A folder and its subfolders are searched for the suffixes of the readable formats, without hidden files; the matches
    of a pattern (``**`` includes subfolders) are filtered likewise; a single file may have any name. Links to folders
    are followed as :func:`walk_folders` does. Raises BadInput where nothing is found.
    """
    path = Path(source)
    if path.is_dir():
        found = [folder / name for folder, names in walk_folders(path) for name in names]
        what = f"folder {path}"
    elif path.exists():
        return [path]
    elif glob.has_magic(os.fspath(source)):
        found = [p for p in _matches(os.fspath(source)) if p.is_file()]
        what = f"pattern {source}"
    else:
        raise BadInput(f"{source}: no such file or folder")
    suffixes = SUFFIXES | VIDEO_SUFFIXES if videos else SUFFIXES
    images = sorted(p for p in found if p.suffix.lower() in suffixes and not p.name.startswith("."))
    if not images:
        raise BadInput(
            f"{what}: no images in it{', nor videos' if videos else ''} ({len(found)} files of other kinds); "
            f"expected names that end in one of {' '.join(sorted(suffixes))}"
        )
    return images


def walk_folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it, each with the names of its files, sorted; every folder once.

    Links to folders are followed after the folders themselves, so that a folder keeps its own path. A link to a folder
    that was visited, or that holds the link itself, is not followed.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = deque([root]), deque[Path]()
    while folders or links:
        is_link = not folders
        folder = links.popleft() if is_link else folders.popleft()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen or (is_link and _holds_itself(folder)):
                continue
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        seen.add((status.st_dev, status.st_ino))
        names = []
        for entry in found:
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(folder / entry.name)
            else:
                names.append(entry.name)
        yield folder, names


def _holds_itself(link: Path) -> bool:
    return Path(os.path.realpath(link.parent)).is_relative_to(os.path.realpath(link))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _matches(pattern: str) -> Iterator[Path]:
    """Paths that match a pattern; ``**`` walks as ``walk_folders``, where glob follows every link until names end."""
    parts = Path(pattern).parts
    if _ANY_DEPTH not in parts:
        yield from map(Path, glob.glob(pattern))
        return
    start = parts.index(_ANY_DEPTH)
    rest = [*parts[start:], "*"] if parts[-1] == _ANY_DEPTH else parts[start:]
    for base in glob.glob(os.path.join(*parts[:start])) if start else [os.curdir]:
        for folder, names in walk_folders(Path(base)):
            below = folder.relative_to(base).parts
            if not any(part.startswith(".") for part in below):
                yield from (folder / name for name in names if _fits((*below, name), rest))


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern or not parts:
        return not pattern and not parts
    if pattern[0] == _ANY_DEPTH:
        return _fits(parts, pattern[1:]) or _fits(parts[1:], pattern)
    return fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])

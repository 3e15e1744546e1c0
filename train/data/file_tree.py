"""The files of a data set whose layout is free: annotations and images in any folders, paired by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aweigh.runtime.images.listing import walk_folders
from aweigh.runtime.images.reading import SUFFIXES
from aweigh.train.data.records import Fault
from aweigh.train.data.split_names import in_usual_order, split_of

_FIRST = 20  # files that are opened to see whether a folder has any of a kind


def files_below(root: Path) -> list[Path]:
    """Files of a folder and its subfolders, sorted, without hidden ones."""
    found = [
        folder / name
        for folder, names in walk_folders(root)
        if not any(part.startswith(".") for part in folder.relative_to(root).parts)
        for name in names
        if not name.startswith(".")
    ]
    return sorted(found)


def id_of(image: Path, root: Path) -> str:
    """The path of an image below the data set's folder; the whole path where it lies elsewhere."""
    return (image.relative_to(root) if image.is_relative_to(root) else image).as_posix()


def splits_by_folder(root: Path, suffix: str, is_annotation: Callable[[Path], bool]) -> dict[str, Path]:
    """The splits that folders name, each with ``root``, where one of the first files with a suffix is an annotation."""
    files = [path for path in files_below(root) if path.suffix.lower() == suffix]
    if not any(map(is_annotation, files[:_FIRST])):
        return {}
    return dict.fromkeys(in_usual_order({split_of(path, root) for path in files}), root)


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split.

    Attributes:
        root: of the data set.
        annotations: files with the suffix asked for.
        images: by stem.
    """

    root: Path
    annotations: list[Path]
    images: dict[str, list[Path]]

    @staticmethod
    def find(root: Path, split: str, suffix: str) -> SplitFiles:
        """Those of a data set that lie in folders of a split."""
        files = [path for path in files_below(root) if split_of(path, root) == split]
        images: dict[str, list[Path]] = {}
        for path in files:
            if path.suffix.lower() in SUFFIXES:
                images.setdefault(path.stem, []).append(path)
        return SplitFiles(root, [path for path in files if path.suffix.lower() == suffix], images)

    def images_of(self, annotation: Path, filename: str) -> list[Path]:
        """Image files that an annotation may be about: those next to it, else those of its stem, else of its file name.

        Where there is none, the file that it names, which does not exist.
        """
        same = self.images.get(annotation.stem, [])
        near = [path for path in same if path.parent == annotation.parent]
        name = PurePosixPath(filename.replace("\\", "/")).name
        named = [path for path in self.images.get(PurePosixPath(name).stem, []) if path.name == name]
        return near or same or named or [annotation.parent / (name or f"{annotation.stem}.jpg")]

    def unannotated(self, used: Iterable[Path]) -> list[Fault]:
        """A note for each image without an annotation."""
        taken = set(used)
        left = [path for paths in self.images.values() for path in paths if path not in taken]
        return [Fault("not-annotated", path.name, f"in {path.parent}", path) for path in sorted(left)]

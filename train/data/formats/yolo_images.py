"""YOLO's images with the lines of their label files, wherever the list of images and classes comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category
from aweigh.train.data.documents import parse_number, parse_whole, read_text
from aweigh.train.data.file_tree import id_of
from aweigh.train.data.formats.yolo_labels import find_label_files
from aweigh.train.data.raw import RawBox, RawImage, RawSplit
from aweigh.train.data.records import Fault


def read_images(
    paths: Sequence[Path], categories: tuple[Category, ...], root: Path, split: str, keypoints: int | None = None
) -> RawSplit:
    """Images with the boxes of their label files.

    Args:
        root: folder that ids of images are relative to.
        keypoints: numbers of keypoints after each box; None for boxes and outlines.
    """
    lines = _Lines({c.id: label for label, c in enumerate(categories)}, keypoints)
    labels = find_label_files(paths)
    faults = [Fault("unknown-picture", path.name, f"label file {path} belongs to no image") for path in labels.orphans]
    notes: list[Fault] = []
    images: list[RawImage] = []
    for path in paths:
        image = RawImage(id_of(path, root), path, unit="fraction")
        label_file = labels.files.get(path)
        if label_file is None:
            notes.append(Fault("no-label-file", path.name, f"no {labels.expected(path)}", path))
        else:
            lines.read(image, label_file, faults)
        images.append(image)
    return RawSplit(split, categories, images, faults, notes)


@dataclass(frozen=True)
class _Lines:
    """How the lines of label files are read.

    Attributes:
        labels: category id to label.
        keypoints: numbers of keypoints after the box; None for boxes and outlines.
    """

    labels: dict[int, int]
    keypoints: int | None

    def read(self, image: RawImage, file: Path, faults: list[Fault]) -> None:
        """Add the boxes of a label file to its image."""
        try:
            lines = read_text(file).splitlines()
        except BadInput as error:
            faults.append(Fault("unreadable-annotation", file.name, str(error)))
            return
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if not words:
                continue
            where = f"{file.name} line {number}"
            corners = self._corners(words[1:])
            category = parse_whole(words[0])
            if corners is None:
                detail = f"{where}: {line.strip()[:80]!r}, expected: {self._form()}"
                faults.append(Fault("unreadable-annotation", image.path.name, detail))
            elif category is None or category not in self.labels:
                detail = f"{where} has category {words[0][:80]}"
                faults.append(Fault("unknown-category", image.path.name, detail))
            else:
                image.boxes.append(RawBox(corners, self.labels[category], where))

    def _form(self) -> str:
        return "class cx cy w h" + (f", or these and {self.keypoints} numbers of keypoints" if self.keypoints else "")

    def _corners(self, words: list[str]) -> tuple[float, float, float, float] | None:
        try:
            values = [parse_number(word) for word in words]
        except ValueError:
            return None
        if self.keypoints is not None and len(values) == 4 + self.keypoints:
            values = values[:4]
        if len(values) == 4:
            cx, cy, width, height = values
            return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2
        if self.keypoints is None and len(values) >= 6 and len(values) % 2 == 0:
            xs, ys = values[0::2], values[1::2]
            return min(xs), min(ys), max(xs), max(ys)
        return None

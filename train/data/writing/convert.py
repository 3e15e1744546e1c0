"""A data set of any format, written in another one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from aweigh.runtime.atomic import atomic_folder
from aweigh.runtime.errors import BadInput
from aweigh.train.data.division import Shares
from aweigh.train.data.open import available_splits, divide, load_raw
from aweigh.train.data.records import Fault
from aweigh.train.data.split_names import canonical
from aweigh.train.data.verify import check
from aweigh.train.data.writing import coco, voc, yolo
from aweigh.train.data.writing.content import Whole
from aweigh.train.process.console import track

Target = Literal["coco", "yolo", "voc"]
TARGETS: tuple[Target, ...] = get_args(Target)
_WRITERS = {"coco": coco.write, "yolo": yolo.write, "voc": voc.write}
_UNION = "trainval"  # VOC's name for the two together


@dataclass(frozen=True)
class Conversion:
    """What was written.

    Attributes:
        out: the folder.
        images: how many, by split as the data set calls it.
        losses: what the format cannot hold, to the number of cases.
        faults: of the annotations, by split; their boxes or images were left out, or clipped.
    """

    out: Path
    images: dict[str, int]
    losses: dict[str, int]
    faults: dict[str, tuple[Fault, ...]]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        faults = {name: len(faults) for name, faults in self.faults.items()}
        return {"out": str(self.out), "images": self.images, "losses": self.losses, "faults": faults}


def convert(
    data: str | os.PathLike[str],
    to: Target,
    out: str | os.PathLike[str],
    *,
    shares: Shares | None = None,
    strict: bool = False,
    outside_images: bool = False,
) -> Conversion:
    """Write a data set in another format, with all its splits and copies of its images.

    The folder appears whole or not at all. VOC's ``trainval`` is not written where there is ``train``.

    Args:
        data, outside_images: as for ``load_split``.
        out: a folder that does not exist or is empty.
        shares: images to hold out for validation and testing, as for training.
        strict: refuse what the format cannot hold, and faulty annotations.

    Raises:
        BadInput: no such data set, ``out`` exists, a name or split that the format has no place for; under ``strict``
            any loss.

    Example:
        >>> conversion = convert(shapes, "yolo", tmp_path / "yolo")
        >>> conversion.images
        {'test': 8, 'train': 24, 'val': 8}
        >>> conversion.losses["ids of annotations"] > 0
        True
    """
    with atomic_folder(out) as folder:  # first, for it refuses a folder that is there
        division = None if shares is None else divide(data, shares, outside_images=outside_images)
        names = available_splits(data, division)
        if any(canonical(name) == "train" for name in names):
            names = tuple(name for name in names if name != _UNION)
        faulty: Literal["refuse", "drop"] = "refuse" if strict else "drop"
        raws = {name: load_raw(data, name, division, outside_images) for name in names}
        whole = Whole({name: check(raw, faulty) for name, raw in raws.items()})
        content = _WRITERS[to](whole)
        losses = {kind: count for kind, count in content.losses.items() if count}
        if strict and losses:
            listed = ", ".join(f"{kind} ({count})" for kind, count in losses.items())
            raise BadInput(f"--strict: {to} cannot hold all of {data}: {listed}")
        for _ in track(content.write(folder), "copy images", total=len(content.copies)):
            pass
    return Conversion(
        Path(out),
        {name: len(split.images) for name, split in whole.splits.items()},
        losses,
        {name: split.faults for name, split in whole.splits.items()},
    )

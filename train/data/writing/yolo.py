"""YOLO: ``data.yaml``, ``images/SPLIT`` and ``labels/SPLIT``; the classes are numbered from 0."""

from __future__ import annotations

from pathlib import PurePosixPath

import yaml

from aweigh.runtime.errors import BadInput
from aweigh.train.data.split_names import USUAL, canonical
from aweigh.train.data.verify import CheckedImage
from aweigh.train.data.writing.content import (
    Content,
    FreeNames,
    Whole,
    count_coco_only,
    count_other_ids,
    number,
)


def write(whole: Whole) -> Content:
    """The files of a data set. Raises BadInput where its splits are others than train, val and test."""
    content = Content()
    categories = whole.categories
    count_other_ids(whole, 0, content.losses)
    keys = {name: _key(name, len(whole.splits)) for name in whole.splits}
    if len(set(keys.values())) < len(keys):
        raise BadInput(f"--to yolo: the splits {', '.join(keys)} are not one train, one val and one test; rename some")
    for name, split in whole.splits.items():
        names = FreeNames()
        count_coco_only(split.images, content.losses)
        for image in split.images:
            file_name = names.take(image.raw.path)
            content.copies[PurePosixPath("images", keys[name], file_name)] = image.raw.path
            place = PurePosixPath("labels", keys[name], file_name).with_suffix(".txt")
            content.texts[place] = _lines(image, content)
    head = {key: f"images/{key}" for key in sorted(keys.values(), key=USUAL.index)}
    classes = {position: category.name for position, category in enumerate(categories)}
    text = yaml.safe_dump({**head, "names": classes}, sort_keys=False, allow_unicode=True)
    content.texts[PurePosixPath("data.yaml")] = text
    return content


def _key(name: str, splits: int) -> str:
    """The key of a split in data.yaml; a set with one split of any name is for training."""
    usual = canonical(name)
    if usual in USUAL:
        return usual
    if splits == 1:
        return "train"
    raise BadInput(f"--to yolo: a data.yaml has train, val and test, the data set has {name!r} too; rename it")


def _lines(image: CheckedImage, content: Content) -> str:
    height, width = image.facts.size_hw
    lines = ""
    for box, (x1, y1, x2, y2) in image.boxes:
        content.losses["crowds, left out"] += box.crowd
        content.losses["difficult objects, left out"] += box.difficult and not box.crowd
        if not box.crowd and not box.difficult:
            values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines += f"{box.label} {' '.join(map(number, values))}\n"
    return lines

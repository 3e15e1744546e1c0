"""One way into every data set: the format is recognised by what lies in the folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import ModelSpec
from aweigh.train.data.division import Division, Shares, draw, image_key, pool_of
from aweigh.train.data.formats.table import FORMATS, Format
from aweigh.train.data.likeness import alike, look_of
from aweigh.train.data.matching import matched_by_name
from aweigh.train.data.raw import RawSplit, note_outside, require_inside
from aweigh.train.data.records import Split, read_record
from aweigh.train.data.split_names import USUAL, canonical, root_of
from aweigh.train.data.unrecognised import unrecognised
from aweigh.train.data.verify import Faulty, verify
from aweigh.train.process.console import track

_THREADS = 4  # OpenCV decodes outside of Python's lock


def load_split(
    data: str | os.PathLike[str],
    split: str,
    faulty: Faulty = "drop",
    decode: bool = False,
    division: Division | None = None,
    outside_images: bool = False,
) -> Split:
    """Read and check one split of a data set.

    Args:
        data: a folder in any of the layouts of ``formats.table``, or the ``data.yaml`` or COCO JSON that lists the
            data set.
        split: ``train``, ``val``, ``test``, or any name the data set has; ``val``, ``valid``, ``validation`` and
            ``val2017`` are the same name as long as the data set has only one of them.
        faulty: ``drop`` leaves faulty annotations and unreadable images out and lists them in Split.faults;
            ``refuse`` raises.
        decode: decode every image once in full, not only header and end marker.
        division: the images that were held out of a data set without ``val`` or ``test``; of a data set that has them
            itself, it is not used.
        outside_images: read images outside of the data set's folder, where its annotations name such.

    Raises:
        BadInput: no such data set or split, a broken file, no categories, no usable image, faults under ``refuse``,
            an image outside of the data set's folder.

    Example:
        >>> split = load_split(shapes, "val")
        >>> len(split.records), len(split.faults)
        (8, 0)
        >>> [category.name for category in split.categories][:2]
        ['disk', 'square']
        >>> split.records[0].boxes_xyxy.shape[1], split.records[0].size_hw
        (4, (64, 64))
    """
    return verify(load_raw(data, split, division, outside_images), faulty, decode)


def load_raw(
    data: str | os.PathLike[str], split: str, division: Division | None = None, outside_images: bool = False
) -> RawSplit:
    """One split of a data set as its files state it, before its images are looked at; otherwise as load_split."""
    found = _recognise(Path(data))
    pool = None if division is None else division.pool(found.splits)
    if division is not None and pool is not None and canonical(split) in division.names():
        return division.part(found.load(pool, outside_images), canonical(split), found.root)
    return found.load(_resolve(split, found.splits, data), outside_images)


def load_split_of(
    spec: ModelSpec,
    data: str | os.PathLike[str],
    split: str,
    faulty: Faulty = "drop",
    match_names: bool = False,
    outside_images: bool = False,
) -> Split:
    """As :func:`load_split`, for a model: of a data set that its training held images out of, the same are held out.

    With ``match_names`` the split has the model's categories, see :func:`~aweigh.train.data.matching.matched_by_name`.
    """
    read = load_split(data, split, faulty, division=Division.of(spec.held_out), outside_images=outside_images)
    return matched_by_name(read, spec) if match_names else read


def divide(
    data: str | os.PathLike[str], shares: Shares, faulty: Faulty = "drop", outside_images: bool = False
) -> Division | None:
    """Hold out images of a data set for validation or testing; images that look alike stay together.

    Every image is decoded once.

    Args:
        data, faulty, outside_images: as for :func:`load_split`.
        shares: how many, and the seed; where it asks for none, the answer is None.

    Raises:
        BadInput: as :func:`load_split`; the data set has a split that is asked for, or none to take it from; too few
            images.

    Example:
        >>> division = divide(shapes / "annotations" / "instances_train.json", Shares(val=0.25))
        >>> load_split(shapes / "annotations" / "instances_train.json", "val", division=division).name
        'val'
    """
    if not shares.asked:
        return None
    found = _recognise(Path(data))
    for name in shares.asked:
        own = next((split for split in found.splits if canonical(split) == name), None)
        if own is not None:
            raise BadInput(f"--{name}-share: {data} has the split {own!r} already; leave the flag out")
    pool = pool_of(tuple(found.splits))
    if pool is None:
        raise BadInput(
            f"--val-share, --test-share: {data} has the splits {', '.join(found.splits)}; expected one that is called "
            "train, or a single one of another name than val and test, to take images from"
        )
    split = verify(found.load(pool, outside_images), faulty)
    return draw(_groups(split, found.root), shares)


def _groups(split: Split, root: Path) -> list[list[bytes]]:
    """Keys of images, those together that look alike."""
    keys = [image_key(record.path, root) for record in split.records]
    with ThreadPoolExecutor(_THREADS) as pool:
        looked = pool.map(lambda record: look_of(read_record(record)), split.records)
        looks = list(track(looked, "compare images", total=len(keys)))
    first = list(range(len(keys)))

    def root_of(i: int) -> int:
        while first[i] != i:
            first[i] = i = first[first[i]]
        return i

    same: dict[bytes, int] = {}
    for i, j in [*((i, same.setdefault(key, i)) for i, key in enumerate(keys)), *((i, j) for i, j, _ in alike(looks))]:
        first[root_of(i)] = root_of(j)
    groups: dict[int, list[bytes]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(root_of(i), []).append(key)
    return list(groups.values())


def available_splits(data: str | os.PathLike[str], division: Division | None = None) -> tuple[str, ...]:
    """Names of the splits, as the data set writes them, or as a division makes them.

    Args:
        data, division: as for :func:`load_split`.

    Raises:
        BadInput: no data set is recognised at ``data``.

    Example:
        >>> available_splits(shapes)
        ('test', 'train', 'val')
    """
    splits = _recognise(Path(data)).splits
    if division is None or (pool := division.pool(splits)) is None:
        return tuple(splits)
    return (*division.names(), *(name for name in splits if name != pool))


@dataclass(frozen=True)
class Recognised:
    """A data set: its folder, its splits with the file each is listed in, and its format."""

    root: Path
    splits: Mapping[str, Path]
    format: Format

    def load(self, split: str, outside_images: bool) -> RawSplit:
        """One of the splits, as its file has it."""
        file = self.splits[split]
        raw = self.format.read(self.root, split, file)
        if self.format.lists_places or outside_images:
            return note_outside(raw, self.root, file)
        return require_inside(raw, self.root, file)


def _recognise(data: Path) -> Recognised:
    if data.is_file():
        return _file(data)
    if not data.is_dir():
        raise BadInput(f"{data}: no such folder or file")
    for one in FORMATS:
        if splits := one.find_splits(data):
            return Recognised(data, splits, one)
    raise unrecognised(data)


def _file(file: Path) -> Recognised:
    """A data set by the file that lists it."""
    for one in FORMATS:
        if file.suffix.lower() in one.suffixes:
            return Recognised(root_of(file), one.splits_of_file(file), one)
    kinds = ", ".join(suffix for one in FORMATS for suffix in one.suffixes)
    raise BadInput(f"{file}: expected a folder or a data.yaml, or another file that lists images ({kinds})")


def _resolve(split: str, splits: Mapping[str, Path], data: object) -> str:
    if split in splits:
        return split
    same = [name for name in splits if canonical(name) == canonical(split)]
    if len(same) == 1:
        return same[0]
    if same:
        raise BadInput(f"{data}: split {split!r} may be any of {', '.join(same)}; name one of them")
    advice = ""
    if canonical(split) in USUAL and pool_of(tuple(splits)) is not None:
        flag = "--test-share" if canonical(split) == "test" else "--val-share"
        advice = (
            f"; aweigh train, convert and doctor hold images out with {flag} 0.2, and what was trained so is judged on "
            "these; other verbs take what there is with --split"
        )
    raise BadInput(f"{data}: no split {split!r}; there is {', '.join(splits)}{advice}")

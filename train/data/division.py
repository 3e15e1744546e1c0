"""Validation and test images taken out of a data set that has none, and the record of which they are.

The record travels in the model's file: 48 bits of a hash for each image that was held out. Wherever the model meets its
data set again, the same images are held out, also where images were added since or the folder has moved; images that
are new are for training.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from aweigh.runtime.errors import BadInput
from aweigh.train.data.raw import RawSplit
from aweigh.train.data.records import Fault
from aweigh.train.data.split_names import USUAL, canonical

_KEY_BYTES = 6
HELD = ("val", "test")


@dataclass(frozen=True)
class Shares:
    """What to hold out of a data set.

    Attributes:
        val, test: shares of the images, 0 to below 1; 0 takes none.
        seed: of the choice.
    """

    val: float = 0.0
    test: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises BadInput for shares out of range, or that leave nothing for training."""
        for name, share in (("--val-share", self.val), ("--test-share", self.test)):
            if not 0 <= share < 1:
                raise BadInput(f"{name} {share}: expected a share of the images, from 0 to below 1")
        if self.val + self.test >= 1:
            raise BadInput(f"--val-share {self.val} and --test-share {self.test} leave no image for training")

    @property
    def asked(self) -> dict[str, float]:
        """The splits asked for, with their shares."""
        return {name: share for name, share in (("val", self.val), ("test", self.test)) if share}


@dataclass(frozen=True)
class Division:
    """Which images are held out.

    Attributes:
        held: ``val`` or ``test`` to the keys of its images.
    """

    held: Mapping[str, frozenset[bytes]]

    @classmethod
    def of(cls, record: Mapping[str, str]) -> Self | None:
        """What ``record`` wrote; None where nothing was held out. Raises BadInput where it is something else."""
        held = {}
        for name, text in record.items():
            try:
                content = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise BadInput(f"held_out.{name}: expected base64 ({error})") from error
            if name not in HELD or not content or len(content) % _KEY_BYTES:
                raise BadInput(f"held_out.{name}: expected val or test with {_KEY_BYTES} bytes for each image")
            keys = (content[i : i + _KEY_BYTES] for i in range(0, len(content), _KEY_BYTES))
            held[name] = frozenset(keys)
        return cls(held) if held else None

    def record(self) -> dict[str, str]:
        """Text for a model's file."""
        return {name: base64.b64encode(b"".join(sorted(keys))).decode() for name, keys in self.held.items()}

    def pool(self, splits: Iterable[str]) -> str | None:
        """The split of a data set that the images are held out of; None where this is not about such a data set."""
        names = list(splits)
        return None if {canonical(name) for name in names} & set(self.held) else pool_of(names)

    def names(self) -> tuple[str, ...]:
        """The splits that it makes."""
        return tuple(name for name in USUAL if name == "train" or name in self.held)

    def part(self, whole: RawSplit, name: str, root: Path) -> RawSplit:
        """One of the splits that it makes, with the faults of its images; those of no image are training's.

        Raises:
            BadInput: none of the images that were held out is there.
        """
        taken = {other: {one.path for one in whole.images if self._holds(one.path, root, other)} for other in HELD}
        if name in self.held and not taken[name]:
            raise BadInput(
                f"{root}: none of the {len(self.held[name])} images that were held out for {name} is there; take the "
                "data set that the model was trained on, or name a split of this one"
            )
        is_held = name in self.held
        paths = taken[name] if is_held else set().union(*taken.values())
        names = {path.name for path in paths}

        def own(faults: Sequence[Fault]) -> list[Fault]:
            return [fault for fault in faults if (fault.file in names) == is_held]

        images = [image for image in whole.images if (image.path in paths) == is_held]
        return RawSplit(name, whole.categories, images, own(whole.faults), own(whole.notes), whole.own)

    def _holds(self, path: Path, root: Path, name: str) -> bool:
        return image_key(path, root) in self.held.get(name, ())


def pool_of(names: Sequence[str]) -> str | None:
    """The split that images may be taken from: ``train``, else the only one that is not called val or test."""
    train = [name for name in names if canonical(name) == "train"]
    candidates = train or [name for name in names if canonical(name) not in USUAL]
    return candidates[0] if len(candidates) == 1 else None


def image_key(path: Path, root: Path) -> bytes:
    """What an image is recognised by: its path below the data set's folder, or its name where it lies elsewhere."""
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:_KEY_BYTES]


def draw(groups: Sequence[Sequence[bytes]], shares: Shares) -> Division:
    """Hold out images at random, groups as a whole.

    Args:
        groups: keys of images that belong together.

    Raises:
        BadInput: too few groups for the shares.
    """
    ordered = sorted((sorted(group) for group in groups), key=lambda group: group[0])
    total = sum(map(len, ordered))
    left = {name: max(1, round(share * total)) for name, share in shares.asked.items()}
    held: dict[str, set[bytes]] = {name: set() for name in left}
    for position in np.random.default_rng(shares.seed).permutation(len(ordered)).tolist():
        group = ordered[position]
        name = next((name for name, count in left.items() if len(group) <= count), None)
        if name is not None:
            held[name].update(group)
            left[name] -= len(group)
    empty = [name for name, keys in held.items() if not keys]
    if empty or sum(map(len, held.values())) >= total:
        raise BadInput(
            f"--{empty[0] if empty else 'val'}-share: {total} images in {len(ordered)} groups that look alike are too "
            "few to divide; take larger shares, or more images"
        )
    return Division({name: frozenset(keys) for name, keys in held.items()})

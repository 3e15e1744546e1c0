"""Checks that read the pixels: images that cannot be decoded, that look alike, or that no split lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.header import read_header
from aweigh.runtime.images.reading import SUFFIXES, read_image
from aweigh.train.data.likeness import Look, alike, look_of
from aweigh.train.data.records import Fault, Split
from aweigh.train.doctor.findings import Finding, gathered
from aweigh.train.process.console import track

_THREADS = 4  # OpenCV decodes outside of Python's lock


@dataclass(frozen=True)
class _Seen:
    """An image that was decoded; ``orientation`` is EXIF's."""

    split: str
    path: Path
    look: Look
    orientation: int


def examine_images(splits: Mapping[str, Split]) -> list[Finding]:
    """Decode every image of the splits once."""
    places = [(name, record.path) for name, split in splits.items() for record in split.records]
    seen: list[_Seen] = []
    cases: dict[str, list[Fault]] = {name: [] for name in splits}
    with ThreadPoolExecutor(_THREADS) as pool:
        looked = pool.map(lambda place: _look(*place), places)
        for (name, _), result in zip(places, track(looked, "images", total=len(places)), strict=True):
            if isinstance(result, Fault):
                cases[name].append(result)
                continue
            seen.append(result)
            if result.orientation != 1:
                detail = f"EXIF orientation {result.orientation}"
                cases[name].append(Fault("exif-turned", result.path.name, detail, result.path))
    findings = [finding for name, its in cases.items() for finding in gathered(name, its)]
    return findings + _likeness(seen)


def unlisted(splits: Mapping[str, Split]) -> list[Finding]:
    """Images in the data set's folders that no split lists; ``splits`` must hold every split."""
    listed = {record.path.resolve() for split in splits.values() for record in split.records}
    # By stem: the image of an XML file too.
    faulty = {Path(fault.file).stem for split in splits.values() for fault in (*split.faults, *split.notes)}
    cases = []
    for folder in sorted({record.path.parent for split in splits.values() for record in split.records}):
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in SUFFIXES and path.resolve() not in listed and path.stem not in faulty:
                cases.append(Fault("unlisted-picture", path.name, f"in {folder}", path))
    return gathered("+".join(splits), cases)


def _look(split: str, path: Path) -> _Seen | Fault:
    try:
        content = path.read_bytes()
        look = look_of(read_image(content, name=str(path)))
    except (OSError, BadInput) as error:
        return Fault("broken-picture", path.name, str(error))
    header = read_header(content)
    return _Seen(split, path, look, header.orientation if header is not None else 1)


def _likeness(seen: Sequence[_Seen]) -> list[Finding]:
    cases: dict[str, list[Fault]] = {}
    for i, j, correlation in alike([one.look for one in seen]):
        a, b = seen[i], seen[j]
        same = a.path.resolve() == b.path.resolve()
        likeness = "the same file" if same else f"correlation {correlation:.3f}"
        kind = "near-duplicate" if a.split == b.split else "leakage"
        where = a.split if a.split == b.split else f"{a.split}+{b.split}"
        detail = f"{a.path.name} of {a.split} and {b.path.name} of {b.split}: {likeness}"
        cases.setdefault(where, []).append(Fault(kind, a.path.name, detail, a.path, others=(b.path,)))
    return [finding for where, its in cases.items() for finding in gathered(where, its)]

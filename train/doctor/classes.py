"""Class balance: who has objects, who has none, and names that may be one name mistyped."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aweigh.train.data.records import Fault, Split
from aweigh.train.doctor.findings import Finding

RARE_OBJECTS = 20
# Of difflib's ratio: one letter too many, too few, wrong or two swapped in a name of six letters or more pass it.
_SIMILAR = 0.83
_FEWEST_LETTERS = 4


@dataclass(frozen=True)
class ClassRow:
    """How often one class is annotated.

    Attributes:
        id, name: the category's.
        objects: how many there are to train on, by split.
        images: how many images show one, by split.
    """

    id: int
    name: str
    objects: dict[str, int] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"id": self.id, "name": self.name, "objects": self.objects, "pictures": self.images}


def class_table(splits: Mapping[str, Split]) -> list[ClassRow]:
    """One row for each class that any split declares, by id and name."""
    rows: dict[tuple[int, str], ClassRow] = {}
    for name, split in splits.items():
        objects, images = np.zeros(len(split.categories), int), np.zeros(len(split.categories), int)
        for record in split.records:
            labels = record.labels[record.targets]
            objects += np.bincount(labels, minlength=len(objects))
            images[np.unique(labels)] += 1
        for category, count, shown in zip(split.categories, objects.tolist(), images.tolist(), strict=True):
            row = rows.setdefault((category.id, category.name), ClassRow(category.id, category.name))
            row.objects[name], row.images[name] = count, shown
    return [rows[key] for key in sorted(rows)]


def examine_classes(splits: Mapping[str, Split], train: str | None, val: str | None) -> list[Finding]:
    """What the table shows. ``train`` and ``val`` are the names of these splits, where there are such."""
    table = class_table(splits)
    together = "+".join(splits)
    findings: list[Finding] = []

    def add(kind: str, split: str, cases: Sequence[tuple[str, str]]) -> None:
        if cases:
            findings.append(Finding(kind, split, tuple(Fault(kind, file, detail) for file, detail in cases)))

    add("different-categories", together, _differences(splits))
    total = {row.name: sum(row.objects.values()) for row in table}
    add(
        "empty-class", together, [(name, f"class {name!r} has no object") for name, count in total.items() if not count]
    )
    if train is not None:
        learnt = {row.name: row.objects.get(train, 0) for row in table}
        unknown = [name for name, count in learnt.items() if not count and total[name]]
        add("untrained-class", train, [(name, f"class {name!r}: {total[name]} objects elsewhere") for name in unknown])
        rare = [(name, count) for name, count in learnt.items() if 0 < count < RARE_OBJECTS]
        add("rare-class", train, [(name, f"class {name!r}: {count} objects") for name, count in rare])
        if val is not None:
            blind = [row.name for row in table if learnt[row.name] and not row.objects.get(val, 0)]
            add(
                "unmeasured-class",
                val,
                [(name, f"class {name!r}: {learnt[name]} objects in {train}") for name in blind],
            )
    pairs = similar_names(list(total))
    add(
        "similar-names",
        together,
        [(f"{a}, {b}", f"{a!r} with {total[a]} objects, {b!r} with {total[b]}") for a, b in pairs],
    )
    return findings


def similar_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that are equal except for case, spaces and signs, or nearly equal in their letters.

    Names that differ only in numbers (``type 1``, ``type 2``) do not count, nor do short ones.
    """
    plain = [re.sub(r"[\W_]+", "", name.casefold()) for name in names]
    letters = [re.sub(r"\d+", "", text) for text in plain]
    pairs = []
    matcher = difflib.SequenceMatcher(autojunk=False)
    for j in range(len(names)):
        matcher.set_seq2(letters[j])
        for i in range(j):
            if plain[i] == plain[j]:
                pairs.append((names[i], names[j]))
                continue
            if letters[i] == letters[j] or min(len(letters[i]), len(letters[j])) < _FEWEST_LETTERS:
                continue
            matcher.set_seq1(letters[i])
            if (
                matcher.real_quick_ratio() > _SIMILAR
                and matcher.quick_ratio() > _SIMILAR
                and matcher.ratio() > _SIMILAR
            ):
                pairs.append((names[i], names[j]))
    return pairs


def _differences(splits: Mapping[str, Split]) -> list[tuple[str, str]]:
    """Of each split against the first one."""
    cases = []
    (first, reference), *others = splits.items()
    for name, split in others:
        ours, theirs = set(reference.categories), set(split.categories)
        for where, alone in ((first, ours - theirs), (name, theirs - ours)):
            other = name if where == first else first
            cases += [
                (where, f"category {c.id} {c.name!r} in {where}, not in {other}")
                for c in sorted(alone, key=lambda c: c.id)
            ]
    return cases

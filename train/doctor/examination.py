"""One examination of a data set: the findings of every check, as values for the page, the table and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aweigh.runtime.spec import InputSpec
from aweigh.train.data.division import Shares
from aweigh.train.data.open import available_splits, divide, load_split
from aweigh.train.data.records import Fault, ImageRecord, Split
from aweigh.train.data.split_names import USUAL, canonical
from aweigh.train.doctor.classes import ClassRow, class_table, examine_classes
from aweigh.train.doctor.findings import KINDS, Finding, gathered, in_order
from aweigh.train.doctor.images import examine_images, unlisted
from aweigh.train.doctor.labels import examine_labels
from aweigh.train.doctor.sizes import Pyramid, SizeTable, examine_fit, examine_sizes, size_table
from aweigh.train.methods import Method

_UNION = "trainval"  # VOC's name for the two together: lists nothing of its own


@dataclass(frozen=True)
class Examination:
    """The findings in a data set, and its tables.

    Attributes:
        data: as given.
        splits: by name, those examined.
        input: the network input that sizes are judged at.
        findings: errors first.
        classes: one row for each.
        sizes: of the objects, by split.
    """

    data: str
    splits: dict[str, Split]
    input: InputSpec
    findings: list[Finding]
    classes: list[ClassRow]
    sizes: dict[str, SizeTable]

    def count(self, grade: str) -> int:
        """Cases of a grade: ``error``, ``warning`` or ``note``."""
        return sum(len(finding.cases) for finding in self.findings if finding.grade == grade)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; ``passed`` where no finding is of grade error."""
        return {
            "data": self.data,
            "passed": self.count("error") == 0,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "notes": self.count("note"),
            "splits": [
                {
                    "name": name,
                    "pictures": len(split.records),
                    "without_objects": sum(len(record.labels) == 0 for record in split.records),
                    "objects": sum(int(record.targets.sum()) for record in split.records),
                }
                for name, split in self.splits.items()
            ],
            "input": {"size_hw": list(self.input.size_hw), "resize": self.input.resize},
            "classes": [row.to_dict() for row in self.classes],
            "sizes": {name: table.to_dict() for name, table in self.sizes.items()},
            "findings": [_finding(finding) for finding in self.findings],
        }

    def some(self, most: int) -> list[tuple[ImageRecord, str]]:
        """Images at random, always the same, and their splits."""
        pairs = [(record, name) for name, split in self.splits.items() for record in split.records]
        chosen = np.random.default_rng(0).permutation(len(pairs))[:most]
        return [pairs[i] for i in sorted(chosen.tolist())]

    def worst(self, most: int) -> list[tuple[Path, str]]:
        """Images with most findings that a look at the image can settle, errors weighing more, and their split."""
        weights = {"error": 10, "warning": 1, "note": 0}
        scores: Counter[tuple[Path, str]] = Counter()
        for finding in self.findings:
            for case in finding.cases:
                if case.path is not None and (case.boxes_xyxy or finding.kind in ("size-mismatch", "exif-orientation")):
                    scores[case.path, finding.split] += weights[finding.grade]
        return [place for place, score in scores.most_common(most) if score]


def examine(
    data: str,
    splits: tuple[str, ...],
    input_for: Callable[[Split], InputSpec],
    pyramid: Pyramid,
    shares: Shares | None = None,
    outside_images: bool = False,
    method_for: Callable[[Split, InputSpec], Method] | None = None,
) -> Examination:
    """Read and examine a data set. Nothing is written.

    Args:
        splits: names; empty for train, val and test as far as there are such, and all there are where none is. That
            train or val is missing is a finding then.
        input_for: the network input for a training split.
        shares: images to hold out, as training would.
        outside_images: as for ``load_split``.
        method_for: the method as a training on this split would have it; None judges no sizes by a method.

    Raises:
        BadInput: no such data set or split, a file that cannot be read at all, no usable image in a split.
    """
    division = None if shares is None else divide(data, shares, outside_images=outside_images)
    there = available_splits(data, division)
    chosen = splits or tuple(name for name in there if canonical(name) in USUAL) or there
    loaded: dict[str, Split] = {}
    for name in sorted(chosen, key=_rank):
        split = load_split(data, name, division=division, outside_images=outside_images)
        loaded[split.name] = split
    train = next((name for name in loaded if canonical(name) == "train"), None)
    val = next((name for name in loaded if canonical(name) == "val"), None)
    first = loaded[train or next(iter(loaded))]
    shape = input_for(first)
    method = None if method_for is None else method_for(first, shape)
    findings = _hindrances(there, loaded, train) if not splits else []
    findings += examine_classes(loaded, train, val) + examine_images(loaded)
    for name, split in loaded.items():
        findings += gathered(
            name, [*split.faults, *split.notes, *examine_labels(split), *examine_sizes(split, shape, pyramid)]
        )
        if method is not None:
            findings += gathered(name, examine_fit(split, shape, method, pyramid.strides))
    if {canonical(name) for name in there} <= {canonical(name) for name in loaded} | {_UNION}:
        findings += unlisted(loaded)
    return Examination(
        str(data),
        loaded,
        shape,
        in_order(findings),
        class_table(loaded),
        {name: size_table(split, shape, pyramid) for name, split in loaded.items()},
    )


def _hindrances(there: tuple[str, ...], loaded: Mapping[str, Split], train: str | None) -> list[Finding]:
    """What training refuses, beyond what it leaves out."""
    usual = {canonical(name) for name in there}
    missing = [
        Fault("missing-split", name, f"no split {name!r}; there is {', '.join(there)}")
        for name in ("train", "val")
        if name not in usual
    ]
    findings = gathered("+".join(loaded), missing)
    if train is not None and not any(len(record.labels) for record in loaded[train].records):
        findings += gathered(train, [Fault("nothing-to-learn", train, f"{len(loaded[train].records)} images")])
    return findings


def _rank(name: str) -> int:
    usual = canonical(name)
    return USUAL.index(usual) if usual in USUAL else len(USUAL)


def _finding(finding: Finding) -> dict[str, Any]:
    kind = KINDS[finding.kind]
    return {
        "kind": finding.kind,
        "grade": kind.grade,
        "split": finding.split,
        "count": len(finding.cases),
        "meaning": kind.meaning,
        "advice": kind.advice,
        "cases": [
            {
                "file": case.file,
                "detail": case.detail,
                # JSON has no NaN; a box that has one cannot be drawn either.
                "boxes_xyxy": [list(box) for box in case.boxes_xyxy if all(abs(v) < float("inf") for v in box)],
                **({"others": [str(path) for path in case.others]} if case.others else {}),
            }
            for case in finding.cases
        ],
    }

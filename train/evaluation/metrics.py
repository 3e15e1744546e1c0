"""Metrics of a split as a value: for the whole split and for each class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from aweigh.runtime.errors import BadInput
from aweigh.runtime.pages import html_table
from aweigh.runtime.values import read_value, shown


class ResultRow(TypedDict):
    """A detection as a row of a COCO results file; ``bbox`` is x, y, width and height in pixels of the image."""

    image_id: int | str
    category_id: int
    bbox: list[float]
    score: float


@dataclass(frozen=True)
class ClassCurve:
    """Curves of a class at IoU 0.5.

    Attributes:
        precision: interpolated, at COCO's 101 recalls, up to the highest recall that is reached.
        f1: of all detections that reach each of the score thresholds 0, 0.005, ..., 1.
    """

    id: int
    name: str
    precision: tuple[float, ...]
    f1: tuple[float, ...]


@dataclass(frozen=True)
class BestThreshold:
    """The score threshold at which the F1 of a class is highest at IoU 0.5.

    Attributes:
        score: 0 to 1; None where the class has no object, or no detection of an object.
        f1: the F1 there, 0 to 1, from the interpolated precision at COCO's 101 recalls; None likewise.
    """

    score: float | None
    f1: float | None


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class.

    Attributes:
        id: of the category.
        name: of the category.
        values: by name, such as ``AP``; shares 0 to 1, None where the class has no object.
        best: of COCO's metrics only.
    """

    id: int
    name: str
    values: Mapping[str, float | None]
    best: BestThreshold | None = None

    def __getitem__(self, name: str) -> float | None:
        """A metric by name."""
        return self.values[name]

    def to_dict(self) -> dict[str, Any]:
        best = {} if self.best is None else {"best_threshold": self.best.score, "best_F1": self.best.f1}
        return {"name": self.name, **self.values, **best}

    @classmethod
    def from_dict(cls, category_id: str, content: Mapping[str, Any]) -> ClassMetrics:
        """What ``to_dict`` gave. Raises BadInput for anything else."""
        where = f"metrics of class {category_id[:40]}"
        if not isinstance(content, dict) or not re.fullmatch("-?[0-9]{1,19}", category_id):
            raise BadInput(f"{where}: expected an object by category id, got {shown(content)}")
        numbers = {name: value for name, value in content.items() if name != "name"}
        values = read_value(dict[str, float | None], numbers, where)
        best = None
        if "best_F1" in values:
            best = BestThreshold(values.pop("best_threshold", None), values.pop("best_F1"))
        return cls(int(category_id), read_value(str, content.get("name"), where), values, best)


@dataclass(frozen=True)
class Metrics:
    """Metrics of a split.

    Attributes:
        values: by name, such as ``AP``; shares 0 to 1, None where no object counts for it.
        per_class: one for each category, in the order of the file format.
        images: of the split.
    """

    values: Mapping[str, float | None]
    per_class: tuple[ClassMetrics, ...]
    images: int

    def __getitem__(self, name: str) -> float | None:
        """A metric by name.

        Example:
            >>> Metrics({"AP": 0.5, "APs": None}, (), 8)["AP"]
            0.5
        """
        return self.values[name]

    def __repr__(self) -> str:
        known = [f"{name} {value:.3f}" for name, value in self.values.items() if value is not None]
        return f"<Metrics of {self.images} images, {len(self.per_class)} classes: {', '.join(known) or 'no objects'}>"

    def _repr_html_(self) -> str:
        """A table, for a notebook: the split, and each class."""
        rows = [("all", self.values), *((row.name, row.values) for row in self.per_class)]
        return html_table(
            ["", *self.values],
            [
                [name, *("" if values.get(key) is None else f"{values[key]:.3f}" for key in self.values)]
                for name, values in rows
            ],
        )

    def of_class(self, category_id: int) -> ClassMetrics:
        """The metrics of a category. Raises KeyError for one that the split does not have."""
        for row in self.per_class:
            if row.id == category_id:
                return row
        raise KeyError(category_id)

    def to_dict(self) -> dict[str, Any]:
        """As in ``aweigh val --json``, summary.json and checkpoints: ``per_class`` by category id."""
        return {
            **self.values,
            "per_class": {str(row.id): row.to_dict() for row in self.per_class},
            "images": self.images,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Metrics:
        """What ``to_dict`` gave; other keys, such as ``iteration``, are ignored. Raises BadInput for anything else."""
        names, per_class = list(content), content.get("per_class")
        if not isinstance(per_class, dict):
            raise BadInput(f"metrics: expected per_class by category id, got {shown(per_class)}")
        values = {name: content[name] for name in names[: names.index("per_class")]}
        return cls(
            read_value(dict[str, float | None], values, "metrics"),
            tuple(ClassMetrics.from_dict(key, row) for key, row in per_class.items()),
            read_value(int, content.get("images"), "metrics: images"),
        )

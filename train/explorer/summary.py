"""An exploration in numbers: how much positive weight each object receives from each method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aweigh.train.explorer.explore import Exploration
from aweigh.train.methods.explanation import SIZES, size_classes

# Weights below are drawn and written as 0; thousands of digits of nothing would fill the page.
_NOTHING = 1e-6
_DIGITS = 4


@dataclass(frozen=True)
class ObjectSummary:
    """One ground-truth object.

    Attributes:
        index: its place among the objects of the image.
        category: name of its class.
        width_px, height_px: of its box, in pixels of the network input.
        size: ``S``, ``M`` or ``L``, by COCO's limits.
        mass: its positive weight, by method; 1 is one plain positive point.
        starved: names of the methods that give it next to nothing.
    """

    index: int
    category: str
    width_px: float
    height_px: float
    size: str
    mass: dict[str, float]
    starved: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "index": self.index,
            "class": self.category,
            "width_px": self.width_px,
            "height_px": self.height_px,
            "size": self.size,
            "mass": self.mass,
            "starved": list(self.starved),
        }


@dataclass(frozen=True)
class ExplorationSummary:
    """What ``aweigh assign`` prints.

    Attributes:
        image: file name.
        method: the checkpoint's own.
        progress: of the training, 0 to 1, that was assumed.
        objects: those to train on.
        quantities: the methods' own numbers, by method and name.
    """

    image: str
    split: str
    method: str
    progress: float
    objects: tuple[ObjectSummary, ...]
    quantities: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "image": self.image,
            "split": self.split,
            "method": self.method,
            "progress": self.progress,
            "truths": [each.to_dict() for each in self.objects],
            "quantities": self.quantities,
        }


def summary(exploration: Exploration) -> ExplorationSummary:
    """Masses, starved objects and quantities of every view."""
    views, targets = exploration.views.items(), exploration.targets
    masses = {name: rounded(view.explanation.mass()) for name, view in views}
    starved = {name: view.explanation.starved().tolist() for name, view in views}
    sizes = size_classes(targets).tolist()
    rows = zip(targets.boxes_xyxy.tolist(), targets.labels.tolist(), strict=True)
    objects = tuple(
        ObjectSummary(
            index,
            exploration.spec.categories[label].name,
            round(box[2] - box[0], 1),
            round(box[3] - box[1], 1),
            SIZES[sizes[index]],
            {name: mass[index] for name, mass in masses.items()},
            tuple(name for name, flags in starved.items() if flags[index]),
        )
        for index, (box, label) in enumerate(rows)
    )
    quantities = {}
    for name, view in views:
        own = view.explanation.quantities
        quantities[name] = dict(zip(own, rounded(list(own.values())), strict=True))
    return ExplorationSummary(
        exploration.record.path.name,
        exploration.split,
        exploration.spec.method,
        exploration.progress,
        objects,
        quantities,
    )


def rounded(values: Tensor | Sequence[float], floor: float = _NOTHING) -> list[float]:
    """Numbers of four significant digits; whole ones as integers, which are shorter."""
    rows = values.tolist() if isinstance(values, Tensor) else list(values)
    short = [float(f"{value:.{_DIGITS}g}") if abs(value) >= floor else 0.0 for value in rows]
    return [int(value) if value == int(value) else value for value in short]

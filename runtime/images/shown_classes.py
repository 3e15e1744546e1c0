"""The classes of a model as pages show them: name, colour and the score above which to show them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from aweigh.runtime.images.palette import class_colour
from aweigh.runtime.spec import ModelSpec


@dataclass(frozen=True)
class ShownClass:
    """One class.

    Attributes:
        id: of the data set's category.
        color: as CSS writes it, ``#rrggbb``.
        best_score: the best threshold of validation, at least the file's own; None where there is none.
    """

    id: int
    name: str
    color: str
    best_score: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def shown_classes(spec: ModelSpec) -> tuple[ShownClass, ...]:
    """The classes of a file, in label order.

    Example:
        >>> from aweigh.runtime import Detector
        >>> with Detector(model_path) as detector:
        ...     shown_classes(detector.spec)[1]
        ShownClass(id=3, name='whole', color='#00ff00', best_score=None)
    """
    best = spec.best_conf or (None,) * len(spec.categories)
    floor = spec.post.score_threshold
    return tuple(
        ShownClass(
            category.id,
            category.name,
            "#{:02x}{:02x}{:02x}".format(*class_colour(position)),
            None if score is None else max(score, floor),
        )
        for position, (category, score) in enumerate(zip(spec.categories, best, strict=True))
    )

"""Score thresholds at run time: one for all classes, one for each, or those that training found best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import ModelSpec

# One number, or a number by category id; classes left out have the file's own threshold.
Conf: TypeAlias = float | Mapping[int, float]
ConfArgument: TypeAlias = Conf | Literal["best"]
# Of a class without a best threshold: most of what a detector reports below it is wrong.
_DRAWN_ABOVE = 0.3


def resolve_conf(conf: ConfArgument | None, spec: ModelSpec) -> Conf | None:
    """The thresholds that ``conf`` means for a file; ``best`` are those in its spec.

    Raises:
        BadInput: a number outside 0 to 1 or below the file's own threshold, an unknown category id or word, ``best`` of
            a file that has no best thresholds.
    """
    if isinstance(conf, str):
        return _best(conf, spec)
    if isinstance(conf, Mapping):
        unknown = sorted(set(conf) - set(spec.names))
        if unknown:
            raise BadInput(f"conf: unknown category ids {unknown}; the file has {spec.names}")
        for value in conf.values():
            _require(value, spec.post.score_threshold)
    elif conf is not None:
        _require(conf, spec.post.score_threshold)
    return conf


def default_drawing(spec: ModelSpec) -> Conf:
    """Above which scores images are drawn where no threshold is asked for: the best one of each class, else 0.3."""
    floor = spec.post.score_threshold
    if not any(value is not None for value in spec.best_conf):
        return max(_DRAWN_ABOVE, floor)
    named = zip(spec.categories, spec.best_conf, strict=True)
    return {c.id: max(_DRAWN_ABOVE if value is None else value, floor) for c, value in named}


def above(
    scores: npt.NDArray[Any], labels: npt.NDArray[Any], conf: Conf | None, spec: ModelSpec
) -> npt.NDArray[np.bool_]:
    """[N] whether scores [N] lie strictly above the threshold of their labels [N] (positions in the categories)."""
    if conf is None:
        return np.ones(len(scores), np.bool_)
    if not isinstance(conf, Mapping):
        return np.asarray(scores > conf)
    # Below every score that the file reports: a class without a number of its own keeps all.
    floors = np.array([conf.get(category.id, -math.inf) for category in spec.categories])
    return np.asarray(scores > floors[labels])


def _best(word: str, spec: ModelSpec) -> Mapping[int, float]:
    if word != "best":
        raise BadInput(f"conf {word!r}: expected a number from {spec.post.score_threshold} to 1, or best")
    if not any(value is not None for value in spec.best_conf):
        raise BadInput(
            "conf best: this file holds no best thresholds (its validation found nothing, or it was trained before "
            "they were kept); give a number: aweigh val reports the best one on your data"
        )
    named = zip(spec.categories, spec.best_conf, strict=True)
    return {c.id: max(value, spec.post.score_threshold) for c, value in named if value is not None}


def _require(value: float, floor: float) -> None:
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise BadInput(f"conf {value}: expected a number from {floor} to 1")
    if value < floor:
        raise BadInput(
            f"conf {value}: this file was exported with the score threshold {floor}, what lies below is not "
            f"computed; take {floor} or more, or export it with a lower threshold"
        )

"""Above which scores two files are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from aweigh.runtime.flow.confidence import Conf, resolve_conf
from aweigh.runtime.spec import ModelSpec

# One for all classes, or one by the name of each: files whose category ids differ are compared too.
Floor: TypeAlias = float | Mapping[str, float]


def floor_of(a: ModelSpec, b: ModelSpec, conf: float | Literal["best"] | None) -> Floor:
    """The number that was asked for, or the higher of the two files' thresholds, with ``best`` of those of each class.

    A class without a best threshold has its file's own. Raises BadInput for ``best`` where a file has none at all.
    """
    if conf is None:
        return max(a.post.score_threshold, b.post.score_threshold)
    if conf != "best":
        return conf
    floors: dict[str, float] = {}
    for spec in (a, b):
        best = resolve_conf(conf, spec)
        assert isinstance(best, Mapping)
        for number, name in spec.names.items():
            floors[name] = max(floors.get(name, 0.0), best.get(number, spec.post.score_threshold))
    return floors


def asked_of(spec: ModelSpec, conf: float | Literal["best"] | None, floor: Floor) -> Conf | None:
    """What one of the files is asked for, so that it reports what lies above the floor.

    Without ``conf`` a file whose own threshold is the floor reports all it has: its threshold may gate another quantity
    than the score.
    """
    if isinstance(floor, Mapping):
        return {number: floor[name] for number, name in spec.names.items()}
    return None if conf is None and spec.post.score_threshold == floor else floor


def floor_words(floor: Floor) -> str:
    """For people.

    Example:
        >>> floor_words(0.05), floor_words({"cat": 0.2, "dog": 0.35})
        ('0.05', "each class's best threshold (0.2 to 0.35)")
    """
    if not isinstance(floor, Mapping):
        return f"{floor:g}"
    return f"each class's best threshold ({min(floor.values()):.2g} to {max(floor.values()):.2g})"

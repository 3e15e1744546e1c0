"""The query of a detection request, as a filter of detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.confidence import Conf, resolve_conf
from aweigh.serve.models.model import Filter, ServedModel
from aweigh.serve.problem import Problem

_NAMES = ("score", "conf", "max_detections", "class", "agnostic")  # ``conf`` is what the Detector calls the score
_MAX_DETECTIONS = 100_000
_MAX_CLASSES = 1000


def read_filter(query_string: bytes, model: ServedModel) -> Filter:
    """What a query asks for.

    Args:
        query_string: as it stands in the URL; empty for all detections.

    Raises:
        Problem: 422 for an unknown parameter, a value out of its range, a score that the file does not report, or an
            unknown class.
    """
    if not query_string:
        return Filter()
    query = parse_qs(query_string.decode("latin-1"), keep_blank_values=True)
    unknown = [name for name in query if name not in _NAMES]
    if unknown:
        raise Problem(422, f"query parameter {unknown[0][:40]!r}: expected {', '.join(_NAMES)}")
    classes = query.get("class")
    return Filter(
        _read_score(query, model),
        None if classes is None else _read_classes(classes, model),
        _read_max_detections(query),
        _read_agnostic(query),
    )


def _read_score(query: Mapping[str, Sequence[str]], model: ServedModel) -> Conf | None:
    given = [(name, text) for name in ("score", "conf") for text in query.get(name, ())]
    if len({text for _, text in given}) > 1:
        raise Problem(422, f"{given[0][0]}: got {len(given)} values, expected one")
    if not given:
        return None
    name, text = given[0]
    if text == "best":
        try:
            return resolve_conf("best", model.spec)
        except BadInput as error:
            raise Problem(422, f"{name} best: this file holds no best thresholds") from error
    try:
        score = float(text)
    except ValueError:
        raise Problem(422, f"{name} {text[:40]!r}: expected a number from 0 to 1, or best") from None
    if not 0 <= score <= 1:  # NaN is neither
        raise Problem(422, f"{name} {score:g}: expected a number from 0 to 1, or best")
    floor = model.spec.post.score_threshold
    if score < floor:
        raise Problem(422, f"{name} {score:g}: this file computes no detections below {floor:g}")
    return score


def _read_max_detections(query: Mapping[str, Sequence[str]]) -> int | None:
    if "max_detections" not in query:
        return None
    text = query["max_detections"][-1]
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= _MAX_DETECTIONS):
        raise Problem(422, f"max_detections {text[:40]!r}: expected a whole number from 1 to {_MAX_DETECTIONS}")
    return int(text)


def _read_agnostic(query: Mapping[str, Sequence[str]]) -> bool:
    text = query.get("agnostic", ["false"])[-1]
    if text not in ("true", "false"):
        raise Problem(422, f"agnostic {text[:40]!r}: expected true or false")
    return text == "true"


def _read_classes(classes: Sequence[str], model: ServedModel) -> frozenset[int]:
    """Ids of the classes; several classes may have one name, and a name comes before an id of the same letters."""
    if len(classes) > _MAX_CLASSES:
        raise Problem(422, f"class: got {len(classes)} values, expected at most {_MAX_CLASSES}")
    class_ids: set[int] = set()
    for text in classes:
        ids = {c.id for c in model.spec.categories if c.name == text}
        ids = ids or {c.id for c in model.spec.categories if str(c.id) == text}
        if not ids:
            raise Problem(422, f"class {text[:80]!r}: {model.name} knows {', '.join(model.spec.names.values())[:400]}")
        class_ids |= ids
    return frozenset(class_ids)

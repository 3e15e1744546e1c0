"""The entry of ``aweigh predict --json`` for one image: its values, and how it is read back.

Another program may have written it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import shown

_LARGEST = float(np.finfo(np.float32).max)
# Every float32 has a decimal of at most nine digits, and one of six has no rival of fewer.
_DIGITS = (6, 7, 8, 9)
_LEAST, _MOST = 1e-6, 1e6
_POWERS_OF_10 = 10.0 ** np.arange(17)


def decimals(values: npt.NDArray[np.float32]) -> list[float]:
    """Each value as the shortest decimal that gives the same float32 back: 0.1, not 0.10000000149011612.

    A server writes a hundred detections for each request: all values at once, in a third of the time of ``str``.
    """
    exact = values.ravel()
    shortest = exact.astype(np.float64)
    sizes = np.abs(shortest)
    # Powers of two have a nearer neighbour on one side; beyond the range, powers of ten are not exact.
    plain = (sizes >= _LEAST) & (sizes < _MOST) & (np.frexp(exact)[0] != 0.5)
    open_rows = np.flatnonzero(plain)
    for digits in _DIGITS:
        if not len(open_rows):
            break
        wanted = shortest[open_rows]
        scale = _POWERS_OF_10[digits - np.ceil(np.log10(sizes[open_rows])).astype(np.int64)]
        # Both are exact, so the quotient is the float64 that the decimal reads as.
        rounded = np.rint(wanted * scale) / scale
        fits = rounded.astype(np.float32) == exact[open_rows]
        shortest[open_rows[fits]] = rounded[fits]
        open_rows = open_rows[~fits]
    found = shortest.tolist()
    for row in (*np.flatnonzero(~plain).tolist(), *open_rows.tolist()):
        found[row] = float(str(exact[row]))
    return found


def drawing_entry(
    drawn_above: float | Mapping[int, float] | None, cls: npt.NDArray[np.int64]
) -> float | dict[str, float] | None:
    """``drawn_above`` as JSON has it: of a mapping only the categories that were detected."""
    if not isinstance(drawn_above, Mapping):
        return drawn_above
    return {str(i): drawn_above[i] for i in np.unique(cls).tolist() if i in drawn_above}


def read_entry(entry: Any, names: Mapping[int, str] | None) -> dict[str, Any]:
    """The fields of ``Detections`` that are in the entry.

    Args:
        entry: ``file``, ``image`` and ``detections``, see ``Detections.to_dict``.
        names: of all classes, or None for those that are found in the entry, by their ids.

    Raises:
        BadInput: another form, or classes that are not those of ``names``.
    """
    if not isinstance(entry, dict) or not {"file", "image", "detections"} <= set(entry):
        raise BadInput(f"detections: expected an object with file, image and detections, got {shown(entry)}")
    where = entry["file"][:200] if isinstance(entry["file"], str) else "detections"
    if entry["file"] is not None and not isinstance(entry["file"], str):
        raise BadInput(f"detections: file: expected a path or null, got {shown(entry['file'])}")
    size, rows = entry["image"], entry["detections"]
    if not isinstance(size, dict) or not all(_is_count(size.get(side)) for side in ("width", "height")):
        raise BadInput(f"{where}: image: expected width and height in pixels, got {shown(size)}")
    if not isinstance(rows, list):
        raise BadInput(f"{where}: detections: expected a list, got {shown(rows)}")
    for row in rows:
        _check_row(row, where)
    found = {row["class_id"]: row["label"] for row in rows}
    for class_id, label in sorted(found.items()):
        if names is not None and names.get(class_id) != label:
            raise BadInput(
                f"{where}: class {class_id} is {shown(label)} there, the names given are {shown(dict(names))}"
            )
    if any(found[row["class_id"]] != row["label"] for row in rows):
        raise BadInput(f"{where}: one class_id has several labels")
    return {
        "xyxy": np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
        "conf": np.array([row["score"] for row in rows], np.float32),
        "cls": np.array([row["class_id"] for row in rows], np.int64),
        "names": dict(sorted(found.items())) if names is None else dict(names),
        "orig_shape": (size["height"], size["width"]),
        "path": entry["file"],
        "drawn_above": _drawn_above(entry.get("drawn_above"), where),
    }


def _drawn_above(value: Any, where: str) -> float | dict[int, float] | None:
    """A file of an earlier aweigh has none."""
    if value is None or _is_number(value):
        return value if value is None else float(value)
    if not isinstance(value, dict) or not all(_is_id(key) and _is_number(floor) for key, floor in value.items()):
        raise BadInput(f"{where}: drawn_above: expected a number, one for each class_id, or null, got {shown(value)}")
    return {int(key): float(floor) for key, floor in value.items()}


def _is_id(text: Any) -> bool:
    return isinstance(text, str) and len(text) <= 20 and text.removeprefix("-").isdecimal() and text.isascii()


def _check_row(row: Any, where: str) -> None:
    if not isinstance(row, dict) or not {"box", "score", "class_id", "label"} <= set(row):
        raise BadInput(f"{where}: expected box, score, class_id and label of each detection, got {shown(row)}")
    box = row["box"]
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in (*box, row["score"])):
        raise BadInput(f"{where}: expected a box of 4 numbers and a score, got {shown(row)}")
    if not _is_count(row["class_id"], least=None) or not isinstance(row["label"], str):
        raise BadInput(f"{where}: expected a whole number as class_id and a name as label, got {shown(row)}")


def _is_number(value: Any) -> bool:
    """A number that float32, in which boxes and scores are kept, can hold."""
    return (isinstance(value, float) and abs(value) <= _LARGEST) or _is_count(value, least=None)


def _is_count(value: Any, least: int | None = 1) -> bool:
    """A whole number that fits into 64 bits."""
    lowest = -(2**63) if least is None else least
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value < 2**63

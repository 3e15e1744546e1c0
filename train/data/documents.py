"""From the bytes of annotation files to values: what another program wrote, however malformed, ends in BadInput.

JSON keeps its types. YAML and label lines are text: a class called ``on``, ``007`` or ``12:30`` keeps its name, and the
readers turn into numbers what must be one.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from aweigh.runtime.errors import BadInput
from aweigh.runtime.json_text import parse_json

INT64 = range(-(1 << 63), 1 << 63)
_EXACT_FLOAT = 1 << 53  # above it a float stands for several integers
_LEVELS = 20

_brief = reprlib.Repr()
_brief.maxlevel, _brief.maxstring, _brief.maxother, _brief.maxlong = 3, 60, 60, 40


def read_bytes(file: Path) -> bytes:
    """The bytes of a file. Raises BadInput where it cannot be read."""
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise BadInput(f"{file}: cannot be read ({error})") from error


def read_text(file: Path) -> str:
    """The text of a file, without a byte order mark. Raises BadInput where it cannot be read or is not UTF-8."""
    try:
        return read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: expected UTF-8 text ({error})") from error


def read_json(content: bytes, where: str) -> Any:
    """The value of a JSON document. NaN and infinity, which JSON does not have, are kept: they cost one box.

    Raises BadInput where it is no JSON, or nested too deeply.
    """
    return parse_json(content, where, "export the annotations again", foreign=True)


def read_yaml(file: Path) -> Any:
    """The value of a YAML file: mappings, lists and text; every scalar stays as it is written, an empty one is ``""``.

    Raises:
        BadInput: not YAML, a key that is no text or stands twice in its mapping, or more than 20 levels.
    """
    try:
        events = yaml.parse(read_bytes(file), Loader=yaml.BaseLoader)
        values = [_node(event, events, {}, str(file), _LEVELS) for event in events if isinstance(event, yaml.NodeEvent)]
    except (yaml.YAMLError, ValueError, OverflowError, AttributeError) as error:  # what PyYAML raises on odd bytes
        raise BadInput(f"{file}: not YAML ({error})") from error
    if len(values) > 1:
        raise BadInput(f"{file}: expected one YAML document, got {len(values)}")
    return values[0] if values else ""


def _node(event: yaml.NodeEvent, events: Iterator[yaml.Event], anchors: dict[str, Any], file: str, levels: int) -> Any:
    """The value that begins with ``event``."""
    where = f"{file} line {event.start_mark.line + 1}" if event.start_mark else file
    if isinstance(event, yaml.AliasEvent):
        if event.anchor not in anchors:
            raise BadInput(f"{where}: not YAML (*{event.anchor} is an alias of nothing before it)")
        return anchors[event.anchor]
    value: Any
    if isinstance(event, yaml.ScalarEvent):
        value = event.value
    elif levels == 0:
        raise BadInput(f"{where}: more than {_LEVELS} levels; a data set needs two")
    elif isinstance(event, yaml.SequenceStartEvent):
        value = [_node(item, events, anchors, file, levels - 1) for item in _until_end(events)]
    else:
        value = {}
        items = _until_end(events)
        for item in items:
            key = _node(item, events, anchors, file, levels - 1)
            if not isinstance(key, str) or key in value:
                what = "stands twice in its mapping" if isinstance(key, str) else "is no text"
                raise BadInput(f"{where}: not usable YAML (the key {shorten(key)} {what})")
            value[key] = _node(next(items), events, anchors, file, levels - 1)
    if event.anchor is not None:
        anchors[event.anchor] = value
    return value


def _until_end(events: Iterator[yaml.Event]) -> Iterator[yaml.NodeEvent]:
    """The first event of each child of the collection that was begun last."""
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            return
        if isinstance(event, yaml.NodeEvent):
            yield event


def whole_number(value: Any) -> int | None:
    """A JSON number without a fraction (7 or 7.0) that fits into 64 bits; None for anything else.

    Example:
        >>> whole_number(7.0), whole_number(7.5), whole_number(True), whole_number(1 << 63)
        (7, None, None, None)
    """
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT_FLOAT:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value in INT64 else None


def parse_number(text: str) -> float:
    """The number that a word stands for, NaN and infinity included. Raises ValueError where it is none.

    Python's own reading takes ``1_000`` and digits of every script; annotation tools write neither.

    Example:
        >>> parse_number("1.000000e+00")
        1.0
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"not a number: {text!r}")
    return float(text)


def parse_whole(text: str) -> int | None:
    """The whole number that a word stands for, ``7``, ``7.000`` or ``7e0``; None where it is none.

    Example:
        >>> parse_whole("7.000000e+00"), parse_whole("7.5"), parse_whole("x")
        (7, None, None)
    """
    if re.fullmatch(r"[+-]?[0-9]{1,19}", text):
        return whole_number(int(text))
    try:
        return whole_number(parse_number(text))
    except ValueError:
        return None


def to_float(value: Any) -> float | None:
    """A JSON number as a float; None for anything else, and for an integer beyond the range of floats.

    Example:
        >>> to_float(3), to_float(10**400), to_float("1")
        (3.0, None, None)
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def is_name(value: Any) -> TypeGuard[str]:
    """Whether this is text that can be written to a file: not empty, and no half of a surrogate pair in it."""
    return isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= c <= "\udfff" for c in value)


def shorten(value: Any) -> str:
    """A value for a message: its beginning, however large or deep it is."""
    text = _brief.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

"""Report: one result of a benchmark, as it lies under benchmarks/results; the one reader and the one writer.

    {"schema": "1.0", "kind", "what", "date", "command", "commit", "machine", "versions", "about", "rows"}

``rows`` holds one object per thing that was measured. What all of them share (limits, recipes, pictures) is ``about``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Self, TypeAlias

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput
from aweigh.runtime.machine.facts import describe
from aweigh.train.tracking.folder import commit, versions

Row: TypeAlias = dict[str, Any]
SCHEMA = "1.0"
# Of what describe() tells, all else is a package.
MACHINE = ("cpu", "cores", "load_1min", "system", "python")


@dataclass(frozen=True)
class Report:
    """What was measured, where, with what.

    Attributes:
        kind: the script, which knows how to show the rows.
        what: one sentence: what a figure means.
        date: ISO, of the newest row.
        command: as typed, without folders of the machine.
        commit: of the source tree; ``unknown`` for an installed copy.
        machine: hardware and system.
        versions: of the packages.
    """

    kind: str
    what: str
    rows: list[Row]
    command: str
    about: dict[str, Any] = field(default_factory=dict)
    date: str = ""
    commit: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def here(
        cls, kind: str, what: str, rows: Sequence[Row], command: str, about: Mapping[str, Any] | None = None
    ) -> Self:
        """A report of this moment, this machine and this tree."""
        facts = describe()
        machine = {name: facts.pop(name) for name in MACHINE}
        packages = {name: str(version) for name, version in facts.items()} | versions()
        today = date.today().isoformat()
        return cls(kind, what, list(rows), command, dict(about or {}), today, commit(), machine, packages)

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all. Raises BadInput where a value has no place in a report."""
        content = {"schema": SCHEMA, **asdict(self)}
        rows = content.pop("rows")
        content["rows"] = rows  # last, for who reads the file
        check(content, str(path))
        for where, text in _texts(content, ""):
            if re.match(r"(~|[A-Za-z]:\\|/)[^/\s]*/", text):
                raise BadInput(f"{path}: {where}: {text!r} names a folder of this machine")
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path, kind: str | None = None) -> Report:
    """Raises BadInput for a file that is no report, or one of another kind."""
    return from_dict(read_json(path), str(path), kind)


def read_json(path: Path) -> dict[str, Any]:
    """Raises BadInput where there is no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); expected a result of a benchmark") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def from_dict(content: Mapping[str, Any], where: str, kind: str | None = None) -> Report:
    check(content, where)
    if kind is not None and content["kind"] != kind:
        raise BadInput(f"{where}: a report of benchmarks/{content['kind']}.py, expected one of benchmarks/{kind}.py")
    return Report(**{name: value for name, value in content.items() if name != "schema"})


def check(content: Mapping[str, Any], where: str) -> None:
    """Raises BadInput, naming what is wrong, unless ``content`` is a report."""
    schema = content.get("schema")
    if not isinstance(schema, str) or schema.split(".")[0] != SCHEMA.split(".")[0]:
        raise BadInput(f"{where}: schema {schema!r}; expected a result of a benchmark, schema {SCHEMA}")
    types: dict[str, type] = {"kind": str, "what": str, "date": str, "command": str, "commit": str}
    types |= {"machine": dict, "versions": dict, "about": dict, "rows": list}
    missing, unknown = sorted(set(types) - set(content)), sorted(set(content) - set(types) - {"schema"})
    if missing or unknown:
        raise BadInput(f"{where}: missing fields {missing}, unknown fields {unknown}")
    for name, expected in types.items():
        value = content[name]
        if not isinstance(value, expected) or (expected is str and not value):
            raise BadInput(f"{where}: {name}: expected {expected.__name__}, got {value!r}")
    try:
        date.fromisoformat(content["date"])
    except ValueError as error:
        raise BadInput(f"{where}: date: expected YYYY-MM-DD, got {content['date']!r}") from error
    if not all(isinstance(row, dict) and row for row in content["rows"]):
        raise BadInput(f"{where}: rows: expected objects with something in them")
    _check_values(content, where)


def _check_values(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise BadInput(f"{where}: the key {name!r} is no text")
            _check_values(inner, f"{where}: {name}")
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_values(inner, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise BadInput(f"{where}: {value} is no number that JSON has")
    elif not isinstance(value, (str, int, float, type(None))):  # bool is an int
        raise BadInput(f"{where}: {type(value).__name__} is no type that JSON has")


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text in a JSON value, with the keys that lead to it."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{where}.{name}" if where else name)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner, where)

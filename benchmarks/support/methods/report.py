"""Reports of methods.py, the older form without a schema too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aweigh.runtime.errors import BadInput
from support.reports.report import MACHINE, SCHEMA, Report, from_dict, read_json


def read_report(path: Path) -> Report:
    """A report of this script; one of before reports had a schema is taken as well, with all its rows."""
    content = read_json(path)
    if "schema" not in content and {"recipe", "data", "runs"} <= set(content):
        content = converted(content)
    report = from_dict(content, str(path), "methods")
    if missing := sorted({"recipe", "data", "latency"} - set(report.about)):
        raise BadInput(f"{path}: no {', '.join(missing)} in about; expected a result of benchmarks/methods.py")
    return report


def converted(old: dict[str, Any]) -> dict[str, Any]:
    """The form without a schema, in which recipe, data, summary and latency stood beside the rows."""
    packages = {name: value for name, value in old["machine"].items() if name not in MACHINE}
    return {
        "schema": SCHEMA,
        "kind": "methods",
        **{name: old[name] for name in ("what", "date", "command", "commit")},
        "machine": {name: value for name, value in old["machine"].items() if name in MACHINE},
        "versions": packages | old["versions"],
        "about": {name: old.get(name) for name in ("recipe", "data", "summary", "latency")},
        "rows": old["runs"],
    }

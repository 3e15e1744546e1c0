"""The source of the four stages as the tests of the layout read it: files, rooms and imports, without importing any."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAGES = ("runtime", "train", "export", "serve")


@dataclass(frozen=True)
class Module:
    """One Python file of a stage, for example runtime/flow/batch.py."""

    path: Path  # relative to ROOT

    @property
    def stage(self) -> str:
        return self.path.parts[0]

    @property
    def room(self) -> str:
        """The folder below the stage, or the file's own name where it lies at the stage's root."""
        return self.path.with_suffix("").parts[1]

    @property
    def text(self) -> str:
        return (ROOT / self.path).read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    @cached_property
    def imports(self) -> frozenset[Path]:
        """The files of the stages that this one imports anywhere in it, inside functions and for type hints too."""
        return frozenset(filter(None, map(_file_of, self.imported_names)))

    @cached_property
    def imported_names(self) -> frozenset[str]:
        names = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: a relative import; write the full name"
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        return frozenset(names)


@cache
def modules(stage: str) -> tuple[Module, ...]:
    return tuple(Module(path.relative_to(ROOT)) for path in sorted((ROOT / stage).rglob("*.py")))


def every_module() -> Iterator[Module]:
    for stage in STAGES:
        yield from modules(stage)


@cache
def _file_of(name: str) -> Path | None:
    """The file of the module `name`, or of the module that defines `name`; None for other packages."""
    first, _, rest = name.partition(".")
    if first != "aweigh" or not rest:
        return None
    parts = rest.split(".")
    while len(parts) > 0:
        for candidate in (Path(*parts).with_suffix(".py"), Path(*parts, "__init__.py")):
            if (ROOT / candidate).is_file():
                return candidate
        parts.pop()
    raise AssertionError(f"no file for the import {name}")

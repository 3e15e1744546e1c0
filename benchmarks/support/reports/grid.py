"""Grid: a table of texts, for a terminal and for Markdown; and how rows of a report become one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

# A dotted path into a row, a format of str.format, or a function of the row.
Cell: TypeAlias = str | Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class Grid:
    """A table; the first column holds what the row is about."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """A table of GitHub's Markdown below its title."""
        lines = [self.header, *self.rows]
        head, *body = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        return "\n".join([f"{self.title}:", "", head, "|---" * len(self.header) + "|", *body, ""])

    def print(self, console: Console) -> None:
        """As a table of the terminal, spreads below their figures."""
        table = Table(title=self.title, title_justify="left")
        for name in self.header:
            table.add_column(name, justify="left" if name == self.header[0] else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*(cell.replace(" (", "\n(") for cell in row))
        console.print(table)


@dataclass(frozen=True)
class Column:
    """A column of a grid.

    Attributes:
        cell: dotted path to a value (``stages.total.p50_ms``), or a function of the row.
        format: of the value, as after the colon of an f-string; ``-`` stands for what is not there.
    """

    name: str
    cell: Cell
    format: str = ""

    def text(self, row: Mapping[str, Any]) -> str:
        if callable(self.cell):
            return self.cell(row)
        value = value_at(row, self.cell)
        if value is None:
            return "-"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, (list, tuple)):
            return ", ".join(map(str, value)) or "-"
        return format(value, self.format)


def make_grid(title: str, columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> Grid:
    """One line per row. Columns that no row has anything for are left out."""
    texts = [[column.text(row) for column in columns] for row in rows]
    kept = [i for i in range(len(columns)) if i == 0 or any(line[i] != "-" for line in texts)]
    return Grid(title, tuple(columns[i].name for i in kept), tuple(tuple(line[i] for i in kept) for line in texts))


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    value: Any = row
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value


def interval(path: str, form: str = ".3f") -> Callable[[Mapping[str, Any]], str]:
    """A cell of ``{"median", "low", "high"}``: ``1.020 (1.013 to 1.031)``."""

    def cell(row: Mapping[str, Any]) -> str:
        value = value_at(row, path)
        if value is None:
            return "-"
        return f"{value['median']:{form}} ({value['low']:{form}} to {value['high']:{form}})"

    return cell

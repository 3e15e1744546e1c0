"""Layout: how the rows of one kind of report are shown. Each command has one, as ``LAYOUT``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from support.reports.grid import Column, Grid, make_grid
from support.reports.plots import Bars
from support.reports.report import Report

# Columns that most commands show.
SETTINGS_COLUMNS = (Column("precision", "precision"), Column("batch", "batch"), Column("threads", "threads"))
QUIET = Column("quiet", "conditions.quiet")


@dataclass(frozen=True)
class Layout:
    """The tables and plots of a report.

    Attributes:
        grids: the report's tables.
        plots: its bars; those that no row has a value for are not drawn.
    """

    grids: Callable[[Report], list[Grid]]
    plots: Sequence[Bars]


def tables(columns: Mapping[str, Sequence[Column]]) -> Callable[[Report], list[Grid]]:
    """One table per title, with a line per row of the report; a table that would only hold names is left out."""

    def grids(report: Report) -> list[Grid]:
        made = [make_grid(title, of_table, report.rows) for title, of_table in columns.items()]
        return [grid for grid in made if len(grid.header) > 1]

    return grids

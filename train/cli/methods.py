"""The methods on the command line: flags that belong to one of them, and ``aweigh methods``, the table of all."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from aweigh.runtime.cli.output import console, emit_json
from aweigh.runtime.errors import BadInput
from aweigh.train.methods import METHODS, method_class

if TYPE_CHECKING:
    from aweigh.train.methods.base import MethodFlag


def add_method_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of every method; imports torch, so that only the verb that is run does it."""
    for name in METHODS:
        for flag in method_class(name).flags:
            how: dict[str, Any] = {"choices": flag.choices} if flag.choices else {"action": "store_true"}
            parser.add_argument(flag.flag, dest=_destination(name, flag), help=flag.help, **how)


def options_from_flags(arguments: argparse.Namespace, method: str) -> dict[str, bool | str]:
    """The options of ``method`` that flags set.

    Raises:
        BadInput: a flag of another method.
    """
    options: dict[str, bool | str] = {}
    for name in METHODS:
        for flag in method_class(name).flags:
            given = getattr(arguments, _destination(name, flag))
            if not given:
                continue
            if name != method:
                raise BadInput(f"{flag.flag} belongs to --method {name}")
            options[flag.option] = given if flag.choices else flag.value
    return options


def _destination(method: str, flag: MethodFlag) -> str:
    return f"{method}.{flag.option}"


@dataclass(frozen=True)
class MethodRow:
    """A method as ``aweigh methods`` lists it.

    Attributes:
        nms: whether its own post-processing has non-maximum suppression.
        reference: whether ``aweigh conformance`` compares it with numbers of its authors' code.
        options: its constants, by name, with their defaults.
    """

    name: str
    title: str
    paper: str
    third_output: str
    nms: bool
    reference: bool
    flags: tuple[MethodFlag, ...]
    options: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        flags = [{"flag": f.flag, "option": f.option, "choices": list(f.choices), "help": f.help} for f in self.flags]
        return {**dataclasses.asdict(self), "flags": flags}


def list_methods() -> list[MethodRow]:
    """One row for every method of ``METHODS``, in their order.

    Example:
        >>> [row.title for row in list_methods() if not row.nms]
        ['O2F']
    """
    from aweigh.train.conformance import RUNNERS

    rows = []
    for name in METHODS:
        chosen = method_class(name)
        options = dataclasses.asdict(chosen.config_class())
        rows.append(
            MethodRow(
                name,
                chosen.title,
                chosen.paper,
                chosen.third_output,
                not chosen.one_to_one,
                name in RUNNERS,
                chosen.flags,
                options,
            )
        )
    return rows


def run_methods(arguments: argparse.Namespace) -> int:
    """``aweigh methods``."""
    rows = list_methods()
    if arguments.json:
        emit_json({"methods": [row.to_dict() for row in rows]})
        return 0
    table = Table(title="label-assignment methods", title_justify="left")
    for column in ("--method", "title", "paper", "third output", "NMS", "reference numbers", "flags"):
        table.add_column(column, overflow="fold")
    for row in rows:
        flags = "\n".join(flag.flag + (f" {'|'.join(flag.choices)}" if flag.choices else "") for flag in row.flags)
        yes = ("no", "yes")
        table.add_row(row.name, row.title, row.paper, row.third_output, yes[row.nms], yes[row.reference], flags)
    console().print(table)
    return 0

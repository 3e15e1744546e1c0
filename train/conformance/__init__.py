"""Conformance: the methods against numbers computed by their authors' code.

One npz file is one case; the folder it lies in names the method. A case is read by the arrays it holds, so that cases
of the same schema with other seeds, image sizes and class counts run as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.train.conformance import autoassign, dw, o2f, paa
from aweigh.train.conformance.case import Case
from aweigh.train.conformance.checks import QuantityCheck
from aweigh.train.methods import METHODS
from aweigh.train.weights.array_file import read_arrays

RUNNERS: dict[str, Callable[[Case], list[QuantityCheck]]] = {
    "autoassign": autoassign.run,
    "dw": dw.run,
    "o2f": o2f.run,
    "paa": paa.run,
}


@dataclass(frozen=True)
class CheckedQuantity:
    """One line of the report.

    Attributes:
        method: name of the folder, or of a method that has no runner here.
        case: name of the file without its suffix; ``*`` where there is no file.
        check: how the quantity compares.
    """

    method: str
    case: str
    check: QuantityCheck

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"method": self.method, "case": self.case, **self.check.to_dict()}


@dataclass(frozen=True)
class ConformanceReport:
    """Every quantity of every case, in the order of the files; then the methods of ``METHODS`` without a runner."""

    cases: tuple[CheckedQuantity, ...]

    @property
    def passed(self) -> bool:
        """Whether no quantity failed."""
        return all(case.check.status != "fail" for case in self.cases)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: ``passed`` and ``cases``."""
        return {"passed": self.passed, "cases": [case.to_dict() for case in self.cases]}


def run_conformance(golden: Path) -> ConformanceReport:
    """Run every case below a folder.

    Args:
        golden: folder of ``METHOD/CASE.npz``, numbers of the authors' code.

    Raises:
        BadInput: no such folder, no cases in it, or a file that cannot be read.
    """
    if not golden.is_dir():
        raise BadInput(f"--golden {golden}: no such folder")
    files = sorted(golden.glob("*/*.npz"))
    if not files:
        raise BadInput(f"--golden {golden}: has no METHOD/CASE.npz")
    cases: list[CheckedQuantity] = []
    for file in files:
        method = file.parent.name
        checks = _run(method, file) if method in RUNNERS else [_not_built()]
        cases += [CheckedQuantity(method, file.stem, check) for check in checks]
    listed = {case.method for case in cases}
    missing = [method for method in METHODS if method not in RUNNERS and method not in listed]
    return ConformanceReport((*cases, *(CheckedQuantity(method, "*", _not_built()) for method in missing)))


def _not_built() -> QuantityCheck:
    return QuantityCheck("*", None, None, "not_built")


def _run(method: str, file: Path) -> list[QuantityCheck]:
    arrays = read_arrays(file, str(file))
    try:
        return RUNNERS[method](Case(arrays))
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:  # of NumPy and torch, for odd shapes
        reason = " ".join(str(error).split())[:300]
        raise BadInput(f"{file}: not a case of {method}: {type(error).__name__}: {reason}") from error

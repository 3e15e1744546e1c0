"""Conformance: the methods against numbers computed by their authors' code.

One npz file is one case; the folder it lies in names the method. A case is read by the arrays it holds, so that cases
of the same schema with other seeds, image sizes and class counts run as well.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aweigh.runtime.errors import BadInput
from aweigh.train.conformance import autoassign, dw, o2f, paa
from aweigh.train.conformance.case import Case, Finding
from aweigh.train.methods import METHODS

RUNNERS: dict[str, Callable[[Case], list[Finding]]] = {
    "autoassign": autoassign.run,
    "dw": dw.run,
    "o2f": o2f.run,
    "paa": paa.run,
}


def run_conformance(golden: Path) -> dict[str, Any]:
    """Run every case below ``golden``.

    Returns:
        ``{"passed": bool, "cases": [{"method", "case", "quantity", "max_rel_err", "tol", "status", ...}]}``; status is
        ``ok``, ``fail``, ``deviates`` (a recorded explosion of the authors' code that is not followed; our value and
        theirs are added) or ``not_built``.

    Raises:
        BadInput: no such folder, no cases in it, or a file that cannot be read.
    """
    if not golden.is_dir():
        raise BadInput(f"--golden {golden}: no such folder")
    files = sorted(golden.glob("*/*.npz"))
    if not files:
        raise BadInput(f"--golden {golden}: found no METHOD/CASE.npz in it")
    cases = []
    for file in files:
        method = file.parent.name
        if method in RUNNERS:
            findings = RUNNERS[method](_load(file))
        else:
            findings = [Finding("*", None, None, "not_built")]
        cases += [{"method": method, "case": file.stem, **finding.to_dict()} for finding in findings]
    present = {case["method"] for case in cases}
    for method in METHODS:
        if method not in RUNNERS and method not in present:
            cases.append({"method": method, "case": "*", **Finding("*", None, None, "not_built").to_dict()})
    return {"passed": all(case["status"] != "fail" for case in cases), "cases": cases}


def _load(file: Path) -> Case:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return Case({name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{file}: cannot be read as an npz file ({error})") from error

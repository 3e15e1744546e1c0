"""A receipt with a build by the real TensorRT: parsed, audited and built, or the reason why not as a failed check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aweigh.export.engine.build import try_build
from aweigh.export.engine.options import EngineOptions
from aweigh.export.proof.checks import Check, Part
from aweigh.export.proof.receipt import Receipt
from aweigh.runtime.errors import AweighError

_LIMIT = "parsed and built, every convolution as the file says"


def with_build(receipt: Receipt, model: Path, options: EngineOptions) -> Receipt:
    """The receipt of an ONNX file with one more check and, where it passed, the section ``tensorrt``.

    Whether the library is there is asked before, see ``open_builder``: here its lack would be a failed check.
    """
    try:
        summary = try_build(model, options)
    except AweighError as error:
        check = Check("TensorRT", False, str(error), _LIMIT, Part.CONTRACT)
        return replace(receipt, checks=(*receipt.checks, check), failed_at=receipt.failed_at or check.name)
    measured = f"{summary.library}: {summary.audit.summary()}"
    check = Check("TensorRT", True, measured, _LIMIT, Part.CONTRACT)
    return replace(receipt, checks=(*receipt.checks, check), tensorrt=summary)

"""What is compared in a case, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from aweigh.train.conformance.case import Case
from aweigh.train.methods.values import Predictions

# Largest relative error, by the precision that the authors computed in.
TOLERANCE = {"float64": 1e-6, "float32": 1e-4}


@dataclass(frozen=True)
class QuantityCheck:
    """One quantity of a case against the number of the authors' code.

    Attributes:
        quantity: name of the array in the file; ``*`` where nothing is compared.
        max_rel_err: largest relative error, see :func:`relative_error`.
        tol: the largest that passes.
        status: ``ok``, ``fail``, ``deviates`` (a recorded explosion of the authors' code that is not followed) or
            ``not_built`` (no code here compares this method).
        value, reference: sums of both sides, only where the status is ``deviates``.
    """

    quantity: str
    max_rel_err: float | None
    tol: float | None
    status: Literal["ok", "fail", "deviates", "not_built"]
    value: float | None = None
    reference: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        row: dict[str, Any] = {
            "quantity": self.quantity,
            "max_rel_err": self.max_rel_err,
            "tol": self.tol,
            "status": self.status,
        }
        if self.value is not None:
            row |= {"value": self.value, "reference": self.reference}
        return row


class CaseChecks:
    """Compares the quantities of one case; ``results`` collects the outcomes."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.results: list[QuantityCheck] = []

    def add(self, quantity: str, ours: Tensor | np.ndarray | float, deviates: bool = False) -> None:
        """Compare with the array of that name; a name that the file does not have is skipped."""
        if quantity in self.case:
            self.add_array(quantity, ours, self.case.array(quantity), deviates)

    def add_array(
        self, quantity: str, ours: Tensor | np.ndarray | float, reference: np.ndarray, deviates: bool = False
    ) -> None:
        value = ours.detach().cpu().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
        exact = reference.dtype.kind in "biu"
        tolerance = 0.0 if exact else TOLERANCE[self.case.precision]
        error = relative_error(value, reference)
        if error <= tolerance:
            self.results.append(QuantityCheck(quantity, error, tolerance, "ok"))
        elif deviates:
            scalars = (float(value.sum()), float(reference.sum()))
            self.results.append(QuantityCheck(quantity, error, tolerance, "deviates", *scalars))
        else:
            self.results.append(QuantityCheck(quantity, error, tolerance, "fail"))

    def add_losses(self, losses: dict[str, Tensor], predictions: Predictions) -> None:
        """Compare the terms, each under its name, and the gradients of their sum."""
        for name, value in losses.items():
            self.add(name, value)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        self.add_gradients(predictions)

    def add_gradients(self, predictions: Predictions, suffix: str = "", deviating: tuple[str, ...] = ()) -> None:
        """Compare the gradients of all three inputs with the arrays ``gcls_l*``, ``greg_l*``, ``gobj_l*``."""
        for stem, tensor in (
            ("cls", predictions.cls_logits),
            ("reg", predictions.reg),
            ("obj", predictions.obj_logits[..., None]),
        ):
            leaf = predictions.obj_logits if stem == "obj" else tensor
            gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            reference = self.case.rows(f"g{stem}", suffix)
            self.add_array(f"g{stem}{suffix}", gradient.reshape(reference.shape), reference, stem in deviating)


def relative_error(value: np.ndarray, reference: np.ndarray) -> float:
    """max |a - b| / (|b| + 0.01 max |b|); for integers and booleans 0 or 1. A shape or finiteness fault is 1e30."""
    if value.shape != reference.shape:
        return 1e30
    if reference.size == 0:
        return 0.0
    if reference.dtype.kind in "biu":
        return float(not np.array_equal(value, reference))
    a, b = value.astype(np.float64), reference.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return 0.0 if np.array_equal(a, b, equal_nan=True) else 1e30
    scale = np.abs(b) + 0.01 * np.abs(b).max()
    difference = np.abs(a - b)
    if scale.max() == 0:
        return float(difference.max()) if difference.max() == 0 else 1e30
    return float((difference / scale).max())

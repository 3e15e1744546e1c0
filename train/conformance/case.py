"""A case, what is compared in it, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from aweigh.runtime.spec import PostSpec
from aweigh.train.dense.points import Points, make_points
from aweigh.train.dense.postprocess import Dense, PostProcess
from aweigh.train.methods.values import Predictions, Targets

TOLERANCE = {"float64": 1e-6, "float32": 1e-4}


Post: TypeAlias = Callable[[PostSpec, Dense], tuple[Tensor, ...]]


def in_torch(spec: PostSpec, dense: Dense) -> tuple[Tensor, ...]:
    """The post-processing as evaluation runs it."""
    outputs: tuple[Tensor, ...] = PostProcess(spec)(dense)
    return outputs


@dataclass(frozen=True)
class Finding:
    """The comparison of one quantity; ``value`` and ``reference`` are given where we deviate on purpose."""

    quantity: str
    max_rel_err: float | None
    tol: float | None
    status: Literal["ok", "fail", "deviates", "not_built"]
    value: float | None = None
    reference: float | None = None

    def to_dict(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "quantity": self.quantity,
            "max_rel_err": self.max_rel_err,
            "tol": self.tol,
            "status": self.status,
        }
        if self.value is not None:
            row |= {"value": self.value, "reference": self.reference}
        return row


class Case:
    """The arrays of one file, as the methods want them."""

    def __init__(self, arrays: dict[str, np.ndarray], precision: str | None = None) -> None:
        self.arrays = arrays
        self.precision = precision or str(arrays["dtype_compute"])
        # A case of several precisions names them all; its runner takes one at a time.
        self.dtype = torch.float32 if self.precision == "float32" else torch.float64
        self.levels = len(arrays["strides"])

    def in_precision(self, precision: str) -> Case:
        """The same arrays, to be computed and judged in ``float64`` or ``float32``."""
        return Case(self.arrays, precision)

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def array(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def number(self, name: str) -> float:
        return float(self.arrays[name])

    @property
    def num_classes(self) -> int:
        return int(self.arrays["num_classes"])

    @property
    def images(self) -> int:
        return int(self.arrays["reg_l0"].shape[0])

    def points(self, offset: float) -> Points:
        shapes = [self.arrays[f"reg_l{level}"].shape[2:] for level in range(self.levels)]
        return make_points(shapes, [int(s) for s in self.arrays["strides"]], offset, dtype=self.dtype)

    def rows(self, stem: str, suffix: str = "") -> np.ndarray:
        """Maps of all levels ``STEM_l0SUFFIX`` ... as [B, P, c]."""
        parts = [self.arrays[f"{stem}_l{level}{suffix}"] for level in range(self.levels)]
        return np.concatenate([p.transpose(0, 2, 3, 1).reshape(p.shape[0], -1, p.shape[1]) for p in parts], axis=1)

    def predictions(self) -> Predictions:
        """With gradients wanted."""
        tensors = [torch.from_numpy(self.rows(stem)).to(self.dtype) for stem in ("cls", "reg", "obj")]
        return Predictions(
            tensors[0].requires_grad_(), tensors[1].requires_grad_(), tensors[2][..., 0].clone().requires_grad_()
        )

    def targets(self) -> Targets:
        return Targets.join(
            [torch.from_numpy(self.arrays[f"gt_boxes_{b}"]).to(self.dtype) for b in range(self.images)],
            [torch.from_numpy(self.arrays[f"gt_labels_{b}"]) for b in range(self.images)],
        )


class Comparison:
    """Collects findings of one case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.findings: list[Finding] = []

    def add(self, quantity: str, ours: Tensor | np.ndarray | float, deviates: bool = False) -> None:
        """Compare with the array of that name; a name the file lacks is passed over."""
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
            self.findings.append(Finding(quantity, error, tolerance, "ok"))
        elif deviates:
            scalars = (float(value.sum()), float(reference.sum()))
            self.findings.append(Finding(quantity, error, tolerance, "deviates", *scalars))
        else:
            self.findings.append(Finding(quantity, error, tolerance, "fail"))

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

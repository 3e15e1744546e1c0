"""Operators with a form of their own on a GPU.

Each has a plain form in torch, which is what it means and what a device without a kernel runs, and a function that
launches Triton kernels. They are registered with torch, so that a count of calls sees them as one.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

NAMESPACE = "aweigh"
_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
_KERNELS = "aweigh.train.kernels.gpu"


@dataclass(frozen=True)
class Operator:
    """One registered operator.

    Attributes:
        plain: its form in torch.
        kernel: module and function below ``kernels.gpu`` that launch it, ``overlap:paired_overlap``.
        launches: kernels of that form, fills of memory included. None of the kernels makes the host wait.
    """

    plain: Callable[..., Any]
    kernel: str
    launches: int

    def on_gpu(self, *arguments: Any) -> Any:
        """By the kernel; by the plain form where Triton is not installed, as on Windows."""
        if importlib.util.find_spec("triton") is None:
            return self.plain(*arguments)
        module, function = self.kernel.split(":")
        return getattr(importlib.import_module(f"{_KERNELS}.{module}"), function)(*arguments)


OPERATORS: dict[str, Operator] = {}


def register(schema: str, plain: Callable[..., Any], kernel: str, launches: int) -> Any:
    """A new operator of the namespace, to be called as the plain form is.

    Args:
        schema: in torch's notation, ``name(Tensor a) -> Tensor``.
    """
    name = schema.partition("(")[0]
    operator = OPERATORS[name] = Operator(plain, kernel, launches)
    _LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, plain, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, operator.on_gpu, "CUDA")  # type: ignore[no-untyped-call]
    return getattr(getattr(torch.ops, NAMESPACE), name).default

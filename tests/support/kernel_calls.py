"""Arguments for every operator that has a kernel of its own, and as a program: what Triton's interpreter makes of them.

TRITON_INTERPRET=1 python kernel_calls.py OUT.pt
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aweigh.train.kernels import cover, focal, mixture, overlap
from aweigh.train.kernels.operators import OPERATORS

assert all((cover, focal, mixture, overlap)), "they fill the table of operators"
DTYPES = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Call:
    """Arguments of one operator; ``label`` says what is special about them."""

    operator: str
    label: str
    arguments: tuple[Any, ...]


def boxes(count: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    low = torch.rand(count, 2, generator=generator, dtype=dtype) * 90
    return torch.cat((low, low + torch.rand(count, 2, generator=generator, dtype=dtype) * 60), dim=1)


def pairs(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, Tensor, Tensor, Tensor]]:
    """Boxes, rows, truths and places of truths."""
    generator = torch.Generator().manual_seed(0)
    none = torch.zeros(0, dtype=torch.long)
    predicted, truths = boxes(50, generator, dtype), boxes(300, generator, dtype)
    yield "no object", predicted, none, truths[:0], none
    yield "one pair", predicted, torch.tensor([7]), truths[:1], torch.tensor([0])
    many = torch.randint(0, 50, (700,), generator=generator), torch.randint(0, 300, (700,), generator=generator)
    yield "300 objects", predicted, many[0], truths, many[1]
    # The same box, sides that touch, boxes without area, boxes turned inside out, boxes far apart.
    odd = torch.tensor(
        [[10, 10, 20, 20], [20, 10, 30, 20], [15, 15, 15, 15], [30, 30, 12, 8], [500, 500, 510, 520]], dtype=dtype
    )
    yield "degenerate", odd, torch.arange(5).repeat_interleave(5), odd, torch.arange(5).repeat(5)


def calls(dtype: torch.dtype) -> Iterator[Call]:
    generator = torch.Generator().manual_seed(1)
    for label, predicted, row, truths, truth in pairs(dtype):
        yield Call("paired_overlap", label, (predicted, row, truths, truth, 1e-6))
        slopes = torch.randn(2, len(row), generator=generator, dtype=dtype).unbind()
        yield Call("paired_overlap_slope", label, (*slopes, predicted, row, truths, truth, 1e-6))
        yield Call("grown_overlap", label, (predicted, row, truths, truth, 1.0))
        counts = [len(truths) - len(truths) // 3, 0, len(truths) // 3]
        everywhere, stride = torch.zeros(7, 2, dtype=dtype), torch.ones(7, dtype=dtype)
        cells = torch.randint(0, 21, (300 if len(truths) else 0,), generator=generator)
        if label != "degenerate":
            yield Call("covered_cells", label, (predicted[:21], cells, truths, counts, everywhere, stride, 1e-7))
    for rows, classes in ((0, 3), (1, 1), (37, 80), (5, 700)):
        logits = torch.randn(rows, classes, generator=generator, dtype=dtype) * 4
        objectness = torch.randn(rows, generator=generator, dtype=dtype) * 4
        for joint, slopes_wanted in ((None, True), (objectness, True), (objectness, False)):
            label = f"{rows}x{classes}{'' if joint is None else ' joint'}{'' if slopes_wanted else ' no slopes'}"
            yield Call("negative_rows", label, (logits, joint, slopes_wanted))
    extreme = torch.tensor([[200.0, -200.0, 0.0]], dtype=dtype)
    yield Call("negative_rows", "extreme", (extreme, extreme[:, 0].contiguous(), True))


def mixtures(dtype: torch.dtype) -> Iterator[Call]:
    generator = torch.Generator().manual_seed(2)
    valid = torch.rand(60, 45, generator=generator) < torch.linspace(0, 1, 60)[:, None]
    valid[0], valid[1], valid[1, 4] = False, False, True  # no candidate, one candidate
    values = torch.rand(60, 45, generator=generator, dtype=dtype) * 6
    yield Call("fitted_mixtures", "random", (values, valid))
    yield Call("fitted_mixtures", "ties", (values.round(), torch.ones_like(valid)))
    yield Call("fitted_mixtures", "equal values", (torch.full((3, 9), 2.5, dtype=dtype), torch.ones(3, 9) > 0))
    yield Call("fitted_mixtures", "no object", (values[:0], valid[:0]))


def every_call() -> list[tuple[str, Call]]:
    """With a name of each."""
    return [
        (f"{call.operator} {call.label} {str(dtype)[6:]}", call)
        for dtype in DTYPES
        for call in (*calls(dtype), *mixtures(dtype))
    ]


def main(out: str) -> None:
    """Write the results of all kernels, by name of the call. The interpreter must be on before Triton is imported."""
    results = {}
    for name, call in every_call():
        module, function = OPERATORS[call.operator].kernel.split(":")
        kernel = getattr(importlib.import_module(f"aweigh.train.kernels.gpu.{module}"), function)
        results[name] = kernel(*call.arguments)
    torch.save(results, out)


if __name__ == "__main__":
    main(sys.argv[1])

"""The device asked for, or an error: never another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from aweigh.runtime.errors import BadInput, CannotRun


def resolve_device(name: str, process: int = 0, processes: int = 1) -> torch.device:
    """``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Of several processes on a machine each gets a CUDA device of its own, the one of its number. TF32 is turned off
    there: torch has it on for convolutions, and fp32 would have ten bits of mantissa.

    Raises:
        BadInput: another word, or one CUDA device for several processes.
        CannotRun: this torch sees no such CUDA device, or not as many.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise BadInput(f"--device {name!r}: expected auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    if index and processes > 1:
        raise BadInput(f"--device {name} for {processes} processes: name the kind alone, --device cuda")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if max(int(index or 0), processes - 1) >= there:
        several = f" for {processes} processes" if processes > 1 else ""
        raise CannotRun(
            f"--device {name}{several}: torch {torch.__version__} sees {there} CUDA devices here; take "
            "--device cpu, or install a CUDA build of torch and a driver"
        )
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda", int(index or process))


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Deterministic kernels on the CPU, where a run can be repeated and resumed bit for bit; restored afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # its one attribute is set on the module's class, unseen by type checkers
    filled = memory.fill_uninitialized_memory
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False  # costs time and changes nothing
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = filled

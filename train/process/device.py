"""The requested device, or an error: never another device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import torch

from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput, CannotRun


def resolve_device(device: Device | str, process: int = 0, processes: int = 1) -> torch.device:
    """torch's device for ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Each of several processes on a machine gets its own CUDA device: the one of its number. TF32 is turned off on
    CUDA: torch has it on for convolutions, and fp32 would have ten bits of mantissa.

    Raises:
        BadInput: a device of another kind, or one CUDA device for several processes.
        CannotRun: torch does not see that CUDA device, or fewer devices than processes.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    device = Device.parse(device, ("auto", "cpu", "cuda"))
    if device.kind == "cpu" or (device.kind == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if device.index is not None and processes > 1:
        raise BadInput(f"--device {device} for {processes} processes: give the kind only, --device cuda")
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if max(device.number, processes - 1) >= available:
        several = f" for {processes} processes" if processes > 1 else ""
        raise CannotRun(
            f"--device {device}{several}: torch {torch.__version__} sees {available} CUDA devices here; take "
            "--device cpu, or install a CUDA build of torch and a driver"
        )
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda", process if device.index is None else device.index)


def training_precision(asked: Literal["auto", "fp32", "bf16"], device: torch.device) -> Literal["fp32", "bf16"]:
    """The arithmetic of a run: ``auto`` is bf16 on CUDA and on CPUs that compute in it, else fp32.

    A CPU without such instructions emulates bf16, many times slower than it computes in fp32.
    """
    if asked != "auto":
        return asked
    return "bf16" if device.type == "cuda" or computes_bf16() else "fp32"


def computes_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16: AVX-512 BF16, AMX, or Arm's."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # not in torch before 2.11
    if capabilities is not None:
        return any(there for name, there in capabilities().items() if "bf16" in name)
    with suppress(OSError):
        return re.search(r"^(flags|Features)\s*:.*bf16", Path("/proc/cpuinfo").read_text(), re.MULTILINE) is not None
    return False


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

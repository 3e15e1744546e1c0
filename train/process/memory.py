"""The message of running out of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from aweigh.runtime.errors import CannotRun
from aweigh.runtime.machine.facts import free_memory_bytes, memory_mb


@contextmanager
def explain_out_of_memory(batch: int, size_hw: tuple[int, int], device: torch.device) -> Iterator[None]:
    """Turn running out of memory into CannotRun with the memory in use; other errors pass."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise CannotRun(
            f"out of memory on {device} with batch {batch} at an input of {size_hw[1]}x{size_hw[0]}: {_used(device)}. "
            f"Try --batch {max(1, batch // 2)} (or --batch auto), a smaller --imgsz or --model"
            f"{', --cache none, fewer --workers' if device.type == 'cpu' else ''}. What was kept of the run is in its "
            f"folder; --resume would take as much memory again ({reason})"
        ) from error


def _is_memory(error: MemoryError | RuntimeError) -> bool:
    words = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)


def _used(device: torch.device) -> str:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        peak = torch.cuda.max_memory_allocated(device)
        return f"{peak / 1e9:.2f} GB in use at the most, {free / 1e9:.2f} of {total / 1e9:.2f} GB free now"
    used, peak_mb = memory_mb("VmRSS") or 0, memory_mb("VmHWM") or 0
    return f"{peak_mb / 1e3:.2f} GB in use at the most, {used / 1e3:.2f} now, {free_memory_bytes() / 1e9:.2f} GB free"

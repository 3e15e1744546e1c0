"""Growth of resident memory over a run."""

from __future__ import annotations

from collections.abc import Sequence


def growth_mib(memory_mb: Sequence[float]) -> float | None:
    """Highest of the last half less the highest of the first half, MiB; None for fewer than four figures."""
    half = len(memory_mb) // 2
    if half < 2:
        return None
    return (max(memory_mb[half:]) - max(memory_mb[:half])) * 1e6 / 2**20

"""How many threads training uses, and whether they help on this machine as it is now."""

from __future__ import annotations

import statistics
import time

import torch
import torch.nn.functional as F

from aweigh.runtime.machine import available_cores

# Several threads this much slower than one have collapsed; below it they still pay on kernels larger than the trial's.
COLLAPSE = 1.25


def choose_threads(wanted: int = 0) -> tuple[int, str]:
    """Threads for training on the CPU, and why.

    Small kernels on several threads wait for each other; where other work holds a core, all of them collapse (seen:
    eleven times slower). So several threads are tried against one, and one is taken where
    they are slower by more than COLLAPSE.

    Args:
        wanted: taken without a trial; 0 tries.
    """
    if wanted:
        return wanted, "as asked"
    cores = available_cores()
    if cores == 1:
        return 1, "one core"
    before = torch.get_num_threads()
    try:
        several, one = _trial_ms(cores), _trial_ms(1)
    finally:
        torch.set_num_threads(before)
    if several > COLLAPSE * one:
        return 1, f"{cores} threads took {several:.1f} ms for a trial that one thread does in {one:.1f} ms"
    return cores, f"{cores} threads {several:.1f} ms, one thread {one:.1f} ms for the same trial"


def _trial_ms(threads: int) -> float:
    """Median time of a stack of small convolutions, forward and backward."""
    torch.set_num_threads(threads)
    x = torch.zeros(8, 32, 24, 24).to(memory_format=torch.channels_last)
    weight = torch.zeros(32, 32, 3, 3, requires_grad=True)
    times = []
    for _ in range(24):
        start = time.perf_counter()
        y = x
        for _ in range(6):
            y = F.relu(F.conv2d(y, weight, padding=1))
        y.sum().backward()  # type: ignore[no-untyped-call]
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[4:])

"""The number of threads for training: as many as help on this machine as it is now."""

from __future__ import annotations

import statistics
import time

import torch
import torch.nn.functional as F

from aweigh.runtime.machine.facts import available_cores

# More threads are taken where they are at most this much slower than the fastest number: they still pay on kernels
# larger than the trial's. Beyond it they have collapsed.
COLLAPSE = 1.25
# A collapse must last: on a virtual machine a neighbour may hold a core for a second or two.
_TRIES, _PAUSE_SECONDS = 3, 3.0
_TRIAL_SECONDS = 1.5


def choose_threads(wanted: int = 0, processes: int = 1) -> tuple[int, str]:
    """Threads for training on the CPU, of each process, and why.

    Threads wait for each other at the end of every kernel; where another program holds a core, all of them collapse
    (measured: two threads eleven times slower than one). So all cores, half of them and so on are tried in turn, and
    fewer than all are taken only where several trials, seconds apart, show that more threads collapse.

    Args:
        wanted: taken without a trial; 0 tries.
        processes: that train on this machine; several get an equal part of the cores each, without a trial.
    """
    if wanted:
        return wanted, "as asked"
    if processes > 1:
        return max(1, available_cores() // processes), f"{available_cores()} cores for {processes} processes"
    counts = [available_cores()]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    if len(counts) == 1:
        return 1, "one core"
    before = torch.get_num_threads()
    try:
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE_SECONDS)
            times_ms = {count: _trial_ms(count) for count in counts}
            chosen = pick(times_ms)
            if chosen == counts[0]:
                break
    finally:
        torch.set_num_threads(before)
    trials = ", ".join(f"{count} in {ms:.1f} ms" for count, ms in times_ms.items())
    return chosen, f"the same trial took {trials}"


def pick(times_ms: dict[int, float]) -> int:
    """The largest number of threads that has not collapsed."""
    best = min(times_ms.values())
    return max(count for count, ms in times_ms.items() if ms <= COLLAPSE * best)


def _trial_ms(threads: int) -> float:
    """Median time of a few convolutions, forward and backward."""
    torch.set_num_threads(threads)
    x = torch.zeros(8, 64, 24, 24).to(memory_format=torch.channels_last)
    weight = torch.zeros(64, 64, 3, 3, requires_grad=True)
    times: list[float] = []
    while len(times) < 12 and (len(times) < 5 or sum(times) < _TRIAL_SECONDS * 1000):
        start = time.perf_counter()
        y = x
        for _ in range(4):
            y = F.relu(F.conv2d(y, weight, padding=1))
        y.sum().backward()  # type: ignore[no-untyped-call]
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[3:])

"""Things measured in turns, and what their differences are worth.

On a shared machine two runs minutes apart tell more of the machine than of what was run. Here A and B take turns, each
round gives one pair, and only pairs are compared; the spread is an interval for the median of the pairs that holds
whatever the distribution (order statistics, exact by the binomial).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """The median of some figures and where the median of all such figures lies.

    Attributes:
        confidence: that it holds, 0 to 1; below 0.95 where there are fewer than 6 figures.
    """

    median: float
    low: float
    high: float
    confidence: float
    pairs: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The narrowest symmetric pair of order statistics that covers the median with at least ``confidence``.

    Where all figures together do not reach it, their range, with the confidence that it has. Raises ValueError for no
    figures.
    """
    if not values:
        raise ValueError("no figures: there is no median")
    ordered, count = sorted(values), len(values)
    rank, below = 0, 0.5**count  # below: chance of at most ``rank`` figures under the median
    while (rank + 1) * 2 < count:
        further = below + math.comb(count, rank + 1) * 0.5**count
        if 1 - 2 * further < confidence:
            break
        rank, below = rank + 1, further
    return Interval(statistics.median(ordered), ordered[rank], ordered[-1 - rank], max(0.0, 1 - 2 * below), count)


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Of first / second, round by round."""
    return median_interval([a / b for a, b in zip(first, second, strict=True)])


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Of first - second, round by round."""
    return median_interval([a - b for a, b in zip(first, second, strict=True)])


def in_turns(runs: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Milliseconds of each run, by round: A B, B A, A B, ... so that a drift of the machine favours none.

    ``warm_up`` rounds come before and are not counted.
    """
    times_ms: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(warm_up + rounds):
        order = list(runs) if turn % 2 == 0 else list(runs)[::-1]
        for name in order:
            start = time.perf_counter()
            runs[name]()
            elapsed_ms = (time.perf_counter() - start) * 1e3
            if turn >= warm_up:
                times_ms[name].append(elapsed_ms)
    return times_ms

"""Traffic: how many requests a batch may expect, and how long it should wait for them."""

from __future__ import annotations

import math
from dataclasses import dataclass

# The next batch stops waiting when no request has arrived for this share of the last batch's time: 5 ms for a network
# of 20 ms, which eight clients on loopback need to come back.
_QUIET_SHARE = 0.25
# It stops after this many times as long in all, while requests keep arriving or are being decoded.
_LONGEST_WAIT = 4.0


@dataclass
class Traffic:
    """What a batcher knows about its clients. It holds no clock: the callers pass seconds, of any one clock.

    The most requests that were inside at one time since the last batch began are expected again. So a lone client is
    never kept waiting, and eight clients in step get batches of eight instead of two halves in turn.

    Attributes:
        wait_s: longest time without an arrival that a batch waits; less where the network is fast.
        inside: requests from their arrival to their answer.

    Example:
        >>> traffic = Traffic(wait_s=0.05)
        >>> traffic.arrive(now_s=0.0)
        >>> traffic.arrive(now_s=0.1)
        >>> traffic.expected(largest_batch=8)
        2
        >>> traffic.end_of_batch(seconds=0.02)
        >>> round(traffic.wait_until_s(start_s=0.2, waiting=2), 3)  # quiet for a quarter of 20 ms
        0.205
    """

    wait_s: float
    inside: int = 0
    _peak: int = 0  # of ``inside``, since the last batch began
    _batch_s: float = math.inf  # of the last batch
    _arrived_s: float = 0.0  # when the last request arrived, or was ready

    def arrive(self, now_s: float) -> None:
        """A request has arrived; it is not decoded yet."""
        self.inside += 1
        self._peak = max(self._peak, self.inside)
        self._arrived_s = now_s

    def ready(self, now_s: float) -> None:
        """A request is decoded and waits for a batch."""
        self._arrived_s = now_s

    def leave(self) -> None:
        """A request is over."""
        self.inside -= 1

    def begin_batch(self) -> None:
        """A batch begins; the next one expects the requests from here on."""
        self._peak = self.inside

    def end_of_batch(self, seconds: float) -> None:
        """A batch took this long."""
        self._batch_s = seconds

    def expected(self, largest_batch: int) -> int:
        """How many rows are worth waiting for."""
        return min(self._peak, largest_batch)

    def wait_until_s(self, start_s: float, waiting: int) -> float:
        """When a batch that is not full should begin all the same.

        Args:
            start_s: since when the batch has been waiting.
            waiting: requests that are ready.
        """
        wait_s = min(self.wait_s, _QUIET_SHARE * self._batch_s)
        end_s = start_s + _LONGEST_WAIT * wait_s
        if self.inside <= waiting:  # no request is being decoded
            end_s = min(end_s, max(start_s, self._arrived_s) + wait_s)
        return end_s

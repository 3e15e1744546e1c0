"""Closed-loop HTTP clients: each sends its next request when the last one is answered. Run by serving.py as a process.

    python benchmarks/support/serving/load.py HOST PORT CLIENTS SECONDS REQUEST_FILE

REQUEST_FILE holds one whole request, headers and body. Prints JSON: milliseconds of the answers of status 200, their
number a second, and the number of each status. A client library would cost the cores that the server is measured on
more than the server does.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_WARM_UP_SHARE = 0.2
_RETRY_S = 0.05  # a client that was refused comes again, sooner than it is asked to


@dataclass
class Counted:
    """Of one client, over the requests that began after the warm-up.

    Attributes:
        latencies_ms: of the requests that were answered by 200.
        statuses: how many requests had each status.
        span_s: from the begin of the first request to that of the one which would have come next.
    """

    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    span_s: float = 0.0

    @property
    def per_s(self) -> float:
        """Answers a second, over whole requests: in a window of time, those that come eight at once count in steps."""
        return len(self.latencies_ms) / self.span_s if self.span_s else 0.0


async def client(host: str, port: int, request: bytes, times: tuple[float, float]) -> Counted:
    """``times``: when the warm-up ends, and when no request begins any more."""
    warm_s, end_s = times
    counted, first_s = Counted(), None
    reader, writer = await asyncio.open_connection(host, port)
    while (begin_s := time.perf_counter()) < end_s:
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(head)
        assert found is not None, head
        await reader.readexactly(int(found[1]))
        status, answered_s = int(head[9:12]), time.perf_counter()
        if status != 200:
            await asyncio.sleep(_RETRY_S)
        if begin_s >= warm_s:
            first_s = begin_s if first_s is None else first_s
            counted.statuses[status] += 1
            counted.span_s = time.perf_counter() - first_s
            if status == 200:
                counted.latencies_ms.append((answered_s - begin_s) * 1e3)
    writer.close()
    return counted


async def load(host: str, port: int, clients: int, seconds: float, request: bytes) -> dict[str, object]:
    begin_s = time.perf_counter()
    times = (begin_s + seconds * _WARM_UP_SHARE, begin_s + seconds * (1 + _WARM_UP_SHARE))
    counted = await asyncio.gather(*(client(host, port, request, times) for _ in range(clients)))
    return {
        "latencies_ms": sorted(ms for each in counted for ms in each.latencies_ms),
        "per_s": sum(each.per_s for each in counted),
        "statuses": dict(sum((each.statuses for each in counted), Counter[int]())),
    }


if __name__ == "__main__":
    _, address, number, count, length, file = sys.argv
    print(json.dumps(asyncio.run(load(address, int(number), int(count), float(length), Path(file).read_bytes()))))

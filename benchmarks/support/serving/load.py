"""Closed-loop HTTP clients: each sends its next request when the last one is answered. Run by serving.py as a process.

    python benchmarks/support/serving/load.py HOST PORT CLIENTS SECONDS REQUEST_FILE

REQUEST_FILE holds one whole request, headers and body. Prints JSON: milliseconds of the answers of status 200 and the
number of each status. A client library would cost the cores that the server is measured on more than the server does.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_WARM_UP_SHARE = 0.2
_RETRY_S = 0.05  # a client that was refused comes again, sooner than it is asked to


async def client(host: str, port: int, request: bytes, times: tuple[float, float], result: Counter[int]) -> list[float]:
    """Milliseconds of the requests that began after the warm-up and were answered by 200."""
    warm_s, end_s = times
    taken: list[float] = []
    reader, writer = await asyncio.open_connection(host, port)
    while (begin_s := time.perf_counter()) < end_s:
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(head)
        assert found is not None, head
        await reader.readexactly(int(found[1]))
        status = int(head[9:12])
        if begin_s >= warm_s:
            result[status] += 1
            if status == 200:
                taken.append((time.perf_counter() - begin_s) * 1e3)
        if status != 200:
            await asyncio.sleep(_RETRY_S)
    writer.close()
    return taken


async def load(host: str, port: int, clients: int, seconds: float, request: bytes) -> dict[str, object]:
    begin_s = time.perf_counter()
    times = (begin_s + seconds * _WARM_UP_SHARE, begin_s + seconds * (1 + _WARM_UP_SHARE))
    statuses: Counter[int] = Counter()
    taken = await asyncio.gather(*(client(host, port, request, times, statuses) for _ in range(clients)))
    return {"latencies_ms": sorted(ms for each in taken for ms in each), "statuses": dict(statuses)}


if __name__ == "__main__":
    _, address, number, count, length, file = sys.argv
    print(json.dumps(asyncio.run(load(address, int(number), int(count), float(length), Path(file).read_bytes()))))

"""What decoding in a process of its own costs one client, next to decoding in the server's.

    python benchmarks/decoding.py --source IMAGE.jpg [--rounds 400] [--url OLD --url NEW] [--limit-added-ms 0.8]

Each image is prepared in a thread of the server's process, as servers did that had no decoding processes, and in one of
those, in turns; what counts is the median of the differences of neighbours. With two --url, of running servers of one
model (two versions of aweigh, or two settings), whole requests over HTTP take turns instead.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import statistics
import sys
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.machine.conditions import between, snapshot
from aweigh.runtime.spec import InputSpec
from aweigh.serve.decoding.images import prepare_image
from aweigh.serve.decoding.pool import Decoders
from aweigh.serve.decoding.process import Bounds
from support.paired import in_turns, paired_difference
from support.reports.grid import Column, interval
from support.reports.layout import QUIET, Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run

_BOUNDS = Bounds(pixels=50_000_000, file_bytes=16 << 20, seconds=5.0)
_PAUSE_S = 0.003  # in which the processes sleep, as between the requests of one client

LAYOUT = Layout(
    tables(
        {
            "decoding in a process of its own": (
                Column("what", "what"),
                Column("rounds", "rounds"),
                Column("before ms", "before_ms", ".2f"),
                Column("now ms", "now_ms", ".2f"),
                Column("added ms", interval("added_ms")),
                QUIET,
            )
        }
    ),
    plots=(Bars("milliseconds more", ("what",), "added_ms.median", "ms"),),
)


def paired_row(what: str, times_ms: dict[str, list[float]]) -> Row:
    return {
        "what": what,
        "rounds": len(times_ms["now"]),
        "before_ms": statistics.median(times_ms["before"]),
        "now_ms": statistics.median(times_ms["now"]),
        "added_ms": paired_difference(times_ms["now"], times_ms["before"]).to_dict(),
    }


async def preparing(picture: bytes, spec: InputSpec, rounds: int) -> Row:
    """From the bytes of a file to the rows for the network, both ways from one event loop."""
    decoders, loop = Decoders(2, _BOUNDS), asyncio.get_running_loop()
    times_ms: dict[str, list[float]] = {"before": [], "now": []}
    with ThreadPoolExecutor(1) as thread:

        def before() -> Awaitable[object]:
            return loop.run_in_executor(thread, prepare_image, picture, spec, _BOUNDS.pixels)

        def now() -> Awaitable[object]:
            return decoders.prepare(picture, spec)

        ways: dict[str, Callable[[], Awaitable[object]]] = {"before": before, "now": now}
        try:
            for turn in range(-4, rounds):
                for name in list(ways) if turn % 2 else list(ways)[::-1]:
                    await asyncio.sleep(_PAUSE_S)
                    begin_s = time.perf_counter()
                    await ways[name]()
                    if turn >= 0:
                        times_ms[name].append((time.perf_counter() - begin_s) * 1e3)
        finally:
            await decoders.close()
    return paired_row(f"file to rows of {spec.size_hw[1]}x{spec.size_hw[0]}", times_ms)


class Client:
    """One connection to one server, whose first model it asks."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "localhost", parts.port or 80)
        self._connection.request("GET", "/v1/models")
        self._path = f"/v1/models/{json.load(self._connection.getresponse())['models'][0]['name']}/detect"

    def close(self) -> None:
        self._connection.close()

    def ask(self, picture: bytes) -> None:
        self._connection.request("POST", self._path, picture, {"Content-Type": "image/jpeg"})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise CannotRun(f"{self._path}: {answer.status} {content[:200]!r}")


def requests(urls: Sequence[str], picture: bytes, rounds: int) -> Row:
    """Whole requests to two servers."""
    with contextlib.closing(Client(urls[0])) as before, contextlib.closing(Client(urls[1])) as now:
        ways = {"before": lambda: before.ask(picture), "now": lambda: now.ask(picture)}
        return paired_row("requests over HTTP", in_turns(ways, rounds, warm_up=20))


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--source", type=Path, required=True, help="an image file")
    parser.add_argument("--rounds", type=int, default=400, help="default %(default)s")
    parser.add_argument(
        "--size", type=int, nargs=2, default=[320, 320], metavar=("H", "W"), help="of the network input"
    )
    parser.add_argument("--url", action="append", default=[], help="two of running servers, the older one first")
    parser.add_argument("--limit-added-ms", type=float, metavar="MS", help="median of what decoding so costs more")
    options: argparse.Namespace = parser.parse_args(arguments)
    if options.rounds < 1 or len(options.url) not in (0, 2):
        raise BadInput("--rounds: expected at least 1; --url: expected none or two")
    picture, before = options.source.read_bytes(), snapshot()
    if options.url:
        row = requests(options.url, picture, options.rounds)
    else:
        row = asyncio.run(preparing(picture, InputSpec(tuple(options.size)), options.rounds))
    conditions = between(before, snapshot())
    row = {**row, "conditions": conditions.to_dict(), "noise": conditions.noise}
    what = "one client: decoding in a process of its own next to decoding in the server's"
    publish(Report.here("decoding", what, [row], public_command("decoding.py", arguments)), LAYOUT, options)
    added_ms = row["added_ms"]["median"]
    if options.limit_added_ms is not None and added_ms > options.limit_added_ms:
        print(f"decoding.py: {added_ms:.2f} ms more, limit {options.limit_added_ms}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run("decoding.py", main))

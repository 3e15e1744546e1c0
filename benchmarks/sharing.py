"""Many threads share one Detector: every result identical to the sequential one, and no memory that grows.

    python benchmarks/sharing.py --model FILE --source DIR --clients 8 --calls 10000 --out FILE.json

Each image is detected once by one thread alone; then the clients call the same Detector at once, and every result is
held against that one, to the last bit. Resident memory is read a hundred times on the way: what counts is its highest
value in the last half against that in the half before (the first calls allocate). Exit code 1 where a result
differs or memory grew by more than ``--limit-growth-mib``.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.listing import list_images
from aweigh.runtime.images.reading import ImageU8, read_image
from aweigh.runtime.machine.conditions import between, snapshot
from aweigh.runtime.machine.facts import memory_mb
from support.artifact import Artifact, add_settings, identical, parse_artifact
from support.reports.grid import Column
from support.reports.growth import growth_mib
from support.reports.layout import QUIET, Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run

_SAMPLES = 100


LAYOUT = Layout(
    tables(
        {
            "threads that share one Detector": (
                Column("model", "model"),
                Column("clients", "clients"),
                Column("calls", "calls"),
                Column("differing", "differing"),
                Column("detections", "detections"),
                Column("growth MiB", "growth_mib", ".1f"),
                Column("calls/s", "calls_per_s", ".1f"),
                QUIET,
            )
        }
    ),
    plots=(Bars("growth of resident memory", ("model", "clients"), "growth_mib", "MiB"),),
)


def share(detector: Detector, pictures: Sequence[ImageU8], clients: int, calls: int) -> Row:
    """All calls, spread over the clients as they come free."""
    expected = [detector(picture) for picture in pictures]
    numbers = itertools.count()
    lock = threading.Lock()
    differing, done, memory = 0, 0, []
    every = max(1, calls // _SAMPLES)

    def client() -> None:
        nonlocal differing, done
        while (number := next(numbers)) < calls:
            found = detector(pictures[number % len(pictures)])
            same = identical(found, expected[number % len(pictures)])
            with lock:
                differing += not same
                done += 1
                if done % every == 0 and (now := memory_mb("VmRSS")) is not None:
                    memory.append(now)

    before = snapshot()
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for future in [pool.submit(client) for _ in range(clients)]:
            future.result()
    seconds = time.perf_counter() - start
    conditions = between(before, snapshot())
    return {
        "clients": clients,
        "calls": done,
        "pictures": len(pictures),
        "detections": sum(len(found) for found in expected),
        "differing": differing,
        "growth_mib": growth_mib(memory),
        "memory_mb": memory,
        "calls_per_s": done / seconds,
        "conditions": conditions.to_dict(),
        "noise": conditions.noise,
    }


def measure(artifact: Artifact, pictures: Sequence[ImageU8], clients: int, calls: int) -> Row:
    with artifact.open() as detector:
        return {**artifact.about(detector), **share(detector, pictures, clients, calls)}


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--model", required=True, action="append", metavar="FILE[@NAME=VALUE,...]", help="repeatable")
    parser.add_argument("--source", required=True, help="picture, folder or pattern")
    parser.add_argument("--pictures", type=int, default=16, help="at most so many of them (default %(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="threads (default %(default)s)")
    parser.add_argument("--calls", type=int, default=10_000, help="of all together (default %(default)s)")
    parser.add_argument("--limit-growth-mib", type=float, default=16.0, help="default %(default)s")
    add_settings(parser)
    options = parser.parse_args(arguments)
    if min(options.clients, options.calls, options.pictures) < 1:
        raise BadInput("--clients, --calls, --pictures: expected at least 1")
    pictures = [read_image(path) for path in list_images(options.source)[: options.pictures]]
    artifacts = [parse_artifact(text, options) for text in options.model]
    rows = [measure(artifact, pictures, options.clients, options.calls) for artifact in artifacts]
    limit = options.limit_growth_mib
    what = "threads that share one Detector: results unlike the sequential ones, growth of resident memory"
    command = public_command("sharing.py", arguments)
    publish(Report.here("sharing", what, rows, command, {"limit_growth_mib": limit}), LAYOUT, options)
    return int(any(row["differing"] or (row["growth_mib"] or 0) > limit for row in rows))


if __name__ == "__main__":
    sys.exit(run("sharing.py", main))

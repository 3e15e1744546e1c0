"""What serving costs next to the Detector itself: latency, throughput, overload, memory.

    python benchmarks/serving.py --model MODEL.onnx --source IMAGE.jpg [--rounds 6] [--overload-network-ms 20]

One server on loopback, bounded load, the load from a process of its own on the same cores. Each load takes turns with
the same work without a server: one client's images with the Detector, tensors with the network on batches, images
of several clients with batches that are decoded in threads meanwhile. Ratios and differences are those of neighbours,
and which of the two comes first changes from round to round. Overload comes last: more clients than the queue has
places, the resident memory after each round. Its network is a stand-in that waits, so that what counts is how the
server shares the cores between those it refuses and those it lets in.

A lone client and the Detector change places every second, not every --seconds: what is looked for is one part in ten,
and a shared machine's speed drifts by more than that within five seconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from aweigh.runtime.errors import BadInput
from aweigh.runtime.machine.facts import available_cores
from aweigh.train.process.console import track
from support.artifact import Artifact, add_settings, parse_artifact
from support.paired import paired_difference, paired_ratio
from support.reports.grid import Column, interval
from support.reports.layout import SETTINGS_COLUMNS, Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run
from support.serving.served import QUEUE, Direct, Server, load_on, requests

# The direct work that each form of request is held against, from several clients.
CEILING = {"jpeg": "decoding and network", "tensor": "network"}
LONE = ("jpeg", 1)
_LONE_S = 1.0


LAYOUT = Layout(
    tables(
        {
            "the server beside the Detector": (
                Column("model", "model"),
                *SETTINGS_COLUMNS[::2],
                Column("load", "load"),
                Column("clients", "clients"),
                *(Column(f"p{q} ms", f"p{q}_ms", ".1f") for q in (50, 95, 99)),
                Column("pictures/s", "per_s", ".1f"),
                Column("share of the direct rate", interval("share")),
                Column("p50 over the Detector's ms", interval("added_p50_ms")),
                Column("statuses", lambda row: ", ".join(f"{n} x {s}" for s, n in row.get("statuses", {}).items())),
                Column("resident MB", lambda row: " ".join(f"{mb:.0f}" for mb in row.get("resident_mb", ()))),
            )
        }
    ),
    plots=(Bars("share of the direct rate", ("load", "clients"), "share", "ratio", 1.0),),
)


def percentiles(latencies_ms: Sequence[float]) -> dict[str, float | None]:
    """None where nothing was answered."""
    if not latencies_ms:
        return {"p50_ms": None, "p95_ms": None, "p99_ms": None}
    return {f"p{q}_ms": float(np.percentile(latencies_ms, q)) for q in (50, 95, 99)}


class Loads:
    """What was measured under one form of request and number of clients, and of the direct work beside it."""

    def __init__(self, form: str, clients: int, reference: str = "") -> None:
        self.form, self.clients, self.reference = form, clients, reference
        self.latencies_ms: list[float] = []
        self.medians_ms: list[float] = []
        self.per_s: list[float] = []
        self.direct_ms: list[list[float]] = []
        self.statuses: Counter[str] = Counter()

    def add(self, found: dict[str, Any]) -> None:
        self.latencies_ms += found["latencies_ms"]
        self.medians_ms.append(statistics.median(found["latencies_ms"] or [float("inf")]))
        self.per_s.append(found["per_s"])
        self.statuses.update(found["statuses"])

    def row(self) -> Row:
        return {
            "load": self.form,
            "clients": self.clients,
            **percentiles(self.latencies_ms),
            "per_s": statistics.median(self.per_s),
            "statuses": dict(self.statuses),
        }

    def beside(self, alone: Direct) -> Row:
        """Share of the direct rate and, for the lone client, milliseconds more than the direct median."""
        count = alone.pictures_of(self.reference)
        rates = [count * 1e3 / statistics.mean(taken) for taken in self.direct_ms]
        figures: Row = {"share": paired_ratio(self.per_s, rates).to_dict()}
        if (self.form, self.clients) == LONE:
            medians = [statistics.median(taken) for taken in self.direct_ms]
            figures["added_p50_ms"] = paired_difference(self.medians_ms, medians).to_dict()
        return figures


def measure(artifact: Artifact, options: argparse.Namespace) -> list[Row]:
    """Rows of the direct figures and of each load."""
    picture, seconds = options.source.read_bytes(), options.seconds
    loads = [
        Loads(form, clients, "one picture" if (form, clients) == LONE else ceiling)
        for form, ceiling in CEILING.items()
        for clients in options.clients
    ]
    with artifact.open() as detector:
        alone, about = Direct(detector, picture, options.batch), artifact.about(detector)
        bodies = requests(detector, picture)
        server = Server.of(artifact, options.batch)
        try:
            for turn in track(range(options.rounds), "rounds", options.rounds):
                for load in loads:
                    turns = max(1, round(seconds / _LONE_S)) if load.clients == 1 else 1
                    for part in range(turns):
                        for direct in (False, True) if (turn + part) % 2 else (True, False):
                            if direct:
                                load.direct_ms.append(alone.measure(load.reference, seconds / turns))
                            else:
                                load.add(load_on(server.url, bodies[load.form], load.clients, seconds / turns))
        finally:
            server.close()
    rows: list[Row] = []
    for name in dict.fromkeys(load.reference for load in loads):
        taken = [ms for load in loads if load.reference == name for ms in chain.from_iterable(load.direct_ms)]
        rate = alone.pictures_of(name) * 1e3 / statistics.mean(taken)
        rows.append({**about, "load": f"direct: {name}", **percentiles(taken), "per_s": rate})
    return rows + [about | load.row() | load.beside(alone) for load in loads]


def overload(artifact: Artifact, options: argparse.Namespace) -> Row:
    """Far more clients than the queue has places."""
    picture, load = options.source.read_bytes(), Loads("jpeg, overload", options.overload)
    with artifact.open() as detector:
        body, about = requests(detector, picture)["jpeg"], artifact.about(detector)
    server = Server.waiting(artifact, options.batch, options.overload_network_ms)
    try:
        resident_mb = [server.resident_mb()]
        for _ in track(range(options.overload_rounds), "overload", options.overload_rounds):
            load.add(load_on(server.url, body, options.overload, options.seconds))
            resident_mb.append(server.resident_mb())
    finally:
        server.close()
    waits = {"queue": QUEUE, "network_ms": options.overload_network_ms, "resident_mb": resident_mb}
    return about | load.row() | waits


def missed(rows: Sequence[Row], options: argparse.Namespace) -> list[str]:
    """The limits that were not kept, in words."""
    found = []
    for row in rows:
        name = f"{row['load']}, {row.get('clients')} clients"
        least = options.at_least.get(row.get("clients"))
        if least is not None and "share" in row and row["share"]["median"] < least:
            found.append(f"{name}: {row['share']['median']:.3f} of the direct rate, at least {least} was asked for")
        added = row.get("added_p50_ms")
        if added is not None and options.limit_added_ms is not None and added["median"] > options.limit_added_ms:
            found.append(f"{name}: {added['median']:.2f} ms over the Detector, limit {options.limit_added_ms}")
        if "queue" in row:
            if set(row["statuses"]) - {"200", "503"}:
                found.append(f"{name}: statuses {row['statuses']}, expected 200 and 503 alone")
            if options.limit_p99_ms is not None and not (row["p99_ms"] or float("inf")) <= options.limit_p99_ms:
                found.append(f"{name}: p99 {row['p99_ms']} ms, limit {options.limit_p99_ms}")
        elif set(row.get("statuses", {})) - {"200"}:
            found.append(f"{name}: statuses {row['statuses']}, expected 200 alone")
    return found


def _shares(text: str) -> dict[int, float]:
    return {int(clients): float(share) for clients, _, share in (piece.partition("=") for piece in text.split(","))}


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--model", required=True, metavar="FILE")
    parser.add_argument("--source", type=Path, required=True, help="a JPEG file")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each figure (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--overload", type=int, default=200, help="clients; 0 leaves it out (default %(default)s)")
    parser.add_argument("--overload-network-ms", type=float, default=20.0, help="per batch (default %(default)s)")
    parser.add_argument("--overload-rounds", type=int, default=6)
    parser.add_argument("--at-least", type=_shares, default={}, metavar="8=0.8,32=0.92", help="of the direct rate")
    parser.add_argument("--limit-added-ms", type=float, metavar="MS", help="one client's median over the Detector's")
    parser.add_argument("--limit-p99-ms", type=float, metavar="MS", help="of what is accepted under overload")
    add_settings(parser)
    options = parser.parse_args(arguments)
    if min(options.rounds, options.batch, options.overload_rounds, *options.clients) < 1 or options.seconds <= 0:
        raise BadInput("--rounds, --batch, --clients, --overload-rounds, --seconds: expected more than 0")
    options.threads = options.threads or available_cores()
    rows = measure(parse_artifact(options.model, options), options)
    if options.overload:
        rows.append(overload(parse_artifact(options.model, options), options))
    what = f"serving on loopback, load on the same cores, batches up to {options.batch}; direct: without a server"
    publish(Report.here("serving", what, rows, public_command("serving.py", arguments)), LAYOUT, options)
    failures = missed(rows, options)
    for line in failures:
        print(f"serving.py: {line}", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(run("serving.py", main))

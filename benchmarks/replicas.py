"""What a second replica under Ray Serve brings, on one machine and on two nodes.

    python benchmarks/replicas.py --model MODEL.onnx --source IMAGE.jpg [--network-ms 20] [--rounds 4] --out FILE

The network is a stand-in that waits ``--network-ms`` per batch, whatever its size, so that what is measured is how
requests are shared out and not how many cores a machine has; decoding, batching and HTTP are real. In each round one
replica and two take turns under the same load. Then two nodes are simulated on this machine, each with room for one
replica, and both must have answered. Needs the extra ray.
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.serve.ray_engine import Replicas, deploy, stop
from aweigh.serve.settings import ModelSource, Settings
from aweigh.train.process.console import track
from support.paired import paired_ratio
from support.reports.grid import Column, interval
from support.reports.layout import Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run
from support.serving import stand_in
from support.serving.served import load_on, requests

_WAIT_S = 60.0


LAYOUT = Layout(
    tables(
        {
            "replicas under Ray Serve": (
                Column("case", "case"),
                Column("clients", "clients"),
                Column("network ms", "network_ms", ".0f"),
                Column("pictures/s", "per_s", ".1f"),
                Column("times one replica", interval("times_one")),
                Column("answered by each", lambda row: ", ".join(f"{n:.0f}" for n in row.get("answered", ()))),
            )
        }
    ),
    plots=(Bars("times one replica", ("case",), "times_one", "ratio", 1.0),),
)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answers_by_replica(url: str) -> dict[str, float]:
    """Pictures that each replica has answered; a replica is known by the time that its process began."""
    found: dict[str, float] = {}
    end_s = time.monotonic() + _WAIT_S
    while len(found) < 2 and time.monotonic() < end_s:
        with urllib.request.urlopen(f"{url}/metrics") as answer:
            lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")]
        began = next(value for name, value in lines if name == "process_start_time_seconds")
        found[began] = sum(float(v) for name, v in lines if name.startswith("aweigh_batch_pictures_sum"))
    return found


@contextmanager
def two_nodes(settings: Settings, port: int, build: Any) -> Iterator[str]:
    """Two nodes of one core each, simulated on this machine, a replica on either."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
        yield deploy(settings, port, Replicas(2, 2), build)
    finally:
        stop()
        cluster.shutdown()


def measure(settings: Settings, body: bytes, network_ms: float, clients: int, seconds: float, rounds: int) -> list[Row]:
    """A row for one replica, two, and two on a node each."""
    import ray

    ray.cloudpickle.register_pickle_by_value(stand_in)
    build, port = stand_in.build_with(network_ms), free_port()
    per_s: dict[str, list[float]] = {}
    statuses: dict[str, list[dict[str, int]]] = {}

    def load(name: str, url: str) -> None:
        found = load_on(url, body, clients, seconds)
        per_s.setdefault(name, []).append(found["per_s"])
        statuses.setdefault(name, []).append(found["statuses"])

    try:
        for turn in track(range(rounds), "rounds", rounds):
            for count in (1, 2) if turn % 2 == 0 else (2, 1):
                load(f"replicas: {count}", deploy(settings, port, Replicas(count, count), build))
    finally:
        stop()
    with two_nodes(settings, free_port(), build) as url:
        for _ in track(range(rounds), "two nodes", rounds):
            load("nodes: 2, a replica each", url)
        answered = answers_by_replica(url)
    one = per_s["replicas: 1"]
    rows: list[Row] = [
        {
            "case": name,
            "clients": clients,
            "network_ms": network_ms,
            "per_s": statistics.median(values),
            "times_one": paired_ratio(values, one).to_dict(),
            "statuses": statuses[name],
        }
        for name, values in per_s.items()
    ]
    rows[-1]["answered"] = list(answered.values())
    return rows


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="FILE")
    parser.add_argument("--source", type=Path, required=True, help="a JPEG file")
    parser.add_argument("--network-ms", type=float, default=20.0, help="per batch (default %(default)s)")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--at-least", type=float, metavar="X", help="two replicas on one node, times one, median")
    options = parser.parse_args(arguments)
    if min(options.clients, options.rounds, options.seconds, options.network_ms) <= 0:
        raise BadInput("--clients, --rounds, --seconds, --network-ms: expected more than 0")
    try:
        import ray  # noqa: F401  asked for before anything is begun
    except ModuleNotFoundError as error:
        raise CannotRun("replicas.py needs Ray: pip install '.[ray]' in a clone of aweigh") from error
    with Detector(options.model) as detector:
        body = requests(detector, options.source.read_bytes())["jpeg"]
    settings = Settings((ModelSource("m", str(options.model.resolve())),), threads=1)
    rows = measure(settings, body, options.network_ms, options.clients, options.seconds, options.rounds)
    what = "requests answered by replicas under Ray Serve; the network is a stand-in that waits"
    publish(Report.here("replicas", what, rows, public_command("replicas.py", arguments)), LAYOUT, options)
    failed = any(set(found) != {"200"} for row in rows for found in row["statuses"])
    idle = len(rows[-1]["answered"]) < 2 or not all(rows[-1]["answered"])
    slow = options.at_least is not None and rows[1]["times_one"]["median"] < options.at_least
    return int(failed or idle or slow)


if __name__ == "__main__":
    sys.exit(run("replicas.py", main))

"""The verb serve: arguments and output here."""

from __future__ import annotations

import argparse
import functools
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from aweigh.runtime.cli.opening import add_opening
from aweigh.runtime.errors import BadInput
from aweigh.serve.settings import LOOPBACK_HOSTS, Limits, Settings, is_loopback, parse_models

if TYPE_CHECKING:
    from aweigh.runtime.cli.main import Verbs
    from aweigh.serve.ray_engine import Replicas
    from aweigh.serve.server import Listening
    from aweigh.serve.services import Services

TOKEN_VARIABLE = "AWEIGH_TOKEN"
_DEFAULT = Limits()


def register(verbs: Verbs) -> None:
    """Entry point ``aweigh.verbs``. Nothing heavy is imported before the verb runs."""
    parser = verbs.add("serve", run_serve)
    parser.add_argument(
        "--model", required=True, action="append", metavar="[NAME=]FILE", help="an exported file; repeatable"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine alone)"
    )
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="of HTTP (default 8000; 0: a free one)")
    parser.add_argument(
        "--grpc-port", type=int, default=8001, metavar="N", help="of gRPC (default 8001; 0: a free one; -1: no gRPC)"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help=f"holds the bearer token; or set {TOKEN_VARIABLE}"
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        metavar="NAME",
        help="that the Host header may have; repeatable (default: loopback's; beyond loopback: any)",
    )
    add_opening(parser, self_test=False)
    parser.add_argument(
        "--engine",
        choices=("process", "ray"),
        default="process",
        help="this process (default), or Ray Serve's replicas",
    )
    parser.add_argument(
        "--replicas",
        default="1",
        metavar="N|LEAST-MOST",
        help="of --engine ray; a range scales with the load (default 1)",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-batch", type=int, default=_DEFAULT.batch, metavar="N", help="pictures (default %(default)s)"
    )
    limits.add_argument(
        "--max-wait-ms",
        type=float,
        default=_DEFAULT.wait_s * 1e3,
        metavar="MS",
        help="for a batch to fill; a lone client never waits (default %(default)g)",
    )
    limits.add_argument(
        "--queue", type=int, default=_DEFAULT.queue_items, metavar="N", help="requests that wait (default %(default)s)"
    )
    limits.add_argument(
        "--deadline", type=float, default=_DEFAULT.deadline_s, metavar="S", help="for an answer (default %(default)g)"
    )
    limits.add_argument(
        "--body-timeout", type=float, default=_DEFAULT.body_s, metavar="S", help="for a body (default %(default)g)"
    )
    limits.add_argument(
        "--max-body-mb", type=float, default=_DEFAULT.body_bytes / 2**20, metavar="MB", help="(default %(default)g)"
    )
    limits.add_argument(
        "--max-megapixels", type=float, default=_DEFAULT.pixels / 1e6, metavar="N", help="(default %(default)g)"
    )


def run_serve(arguments: argparse.Namespace) -> int:
    settings = settings_from(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Who sends nonsense is answered, and does not fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    if arguments.engine == "ray":
        from aweigh.serve.ray_engine import serve_on_ray

        if arguments.port == 0:
            raise BadInput("--port 0: with --engine ray, give the port")
        names = [{"name": source.name} for source in settings.models]
        tell = functools.partial(_tell, arguments.json, None, names)
        serve_on_ray(settings, arguments.port, parse_replicas(arguments.replicas), tell)
        return 0
    if arguments.replicas != "1":
        raise BadInput(f"--replicas {arguments.replicas}: one process is one replica; give --engine ray")
    from aweigh.serve.server import serve

    def on_listening(where: Listening, services: Services) -> None:
        models = [{"name": m.name, "version": m.version} for m in services.store]
        _tell(arguments.json, where.grpc, models, where.http)

    serve(settings, arguments.port, None if arguments.grpc_port < 0 else arguments.grpc_port, on_listening)
    return 0


def _tell(as_json: bool, grpc: str | None, models: list[dict[str, str]], http: str) -> None:
    from aweigh.runtime.cli.output import emit_json

    if as_json:
        emit_json({"http": http, "grpc": grpc, "models": models})
        return
    names = ", ".join(" ".join(model.values()) for model in models)
    print(f"serving {names}\nHTTP {http}\ngRPC {grpc or 'not served'}", flush=True)


def parse_replicas(text: str) -> Replicas:
    """``N`` or ``LEAST-MOST``. Raises BadInput for anything else."""
    from aweigh.serve.ray_engine import Replicas

    least, dash, most = text.partition("-")
    if not (least.isdecimal() and (most.isdecimal() or not dash)):
        raise BadInput(f"--replicas {text}: expected N or LEAST-MOST, from 1")
    return Replicas(int(least), int(most or least))


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Raises BadInput for what cannot be served with."""
    for flag, port in (("--port", arguments.port), ("--grpc-port", arguments.grpc_port)):
        if not -(flag == "--grpc-port") <= port <= 65535:
            raise BadInput(f"{flag} {port}: expected 0 to 65535")
    token = read_token(arguments.token_file)
    loopback = is_loopback(arguments.host)
    # Any name with a token: a page that rebinds DNS to this address does not have it.
    default_hosts = LOOPBACK_HOSTS if loopback else ()
    return Settings(
        models=parse_models(arguments.model),
        device=arguments.device,
        threads=arguments.threads,
        backend=arguments.backend,
        precision=arguments.precision,
        host=arguments.host,
        token=token,
        allowed_hosts=tuple(arguments.allowed_host or default_hosts),
        limits=Limits(
            body_bytes=round(arguments.max_body_mb * 2**20),
            pixels=round(arguments.max_megapixels * 1e6),
            queue_items=arguments.queue,
            body_s=arguments.body_timeout,
            deadline_s=arguments.deadline,
            batch=arguments.max_batch,
            wait_s=arguments.max_wait_ms / 1e3,
        ),
    )


def read_token(path: Path | None) -> str | None:
    """From the file, else from the environment; never from an argument, which every user of the machine can read.

    Raises BadInput for an empty file.
    """
    token = path.read_text(encoding="utf-8").strip() if path is not None else os.environ.get(TOKEN_VARIABLE)
    if path is not None and not token:
        raise BadInput(f"--token-file {path}: the file is empty")
    return token or None

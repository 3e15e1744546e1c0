"""aweigh serve: flags in, a server, and on stdout where it listens."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import resource
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from aweigh.runtime.cli.opening import add_opening, model_file
from aweigh.runtime.errors import BadInput
from aweigh.serve.settings import LOOPBACK_HOSTS, Limits, Settings, is_loopback, parse_models

if TYPE_CHECKING:
    from aweigh.serve.ray_engine import Replicas
    from aweigh.serve.server import Listening
    from aweigh.serve.services import Services

TOKEN_VARIABLE = "AWEIGH_TOKEN"
_DEFAULT = Limits()


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the verb, which ``run`` reads."""
    parser.add_argument(
        "--model",
        required=True,
        action="append",
        metavar="[NAME=]FILE",
        help="an exported file, a path, https://...#sha256=DIGITS or hf:owner/name[/FILE]; repeatable",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: only this machine)"
    )
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="HTTP port (default 8000; 0: a free one)")
    parser.add_argument(
        "--grpc-port", type=int, default=8001, metavar="N", help="gRPC port (default 8001; 0: a free one; -1: no gRPC)"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help=f"file with the bearer token; or set {TOKEN_VARIABLE}"
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        metavar="NAME",
        help="a name that the Host header may have; repeatable (default: the names of loopback; with --host beyond "
        "loopback: any)",
    )
    add_opening(parser, self_test=False)
    parser.add_argument(
        "--engine",
        choices=("process", "ray"),
        default="process",
        help="what runs the server: this process (default), or replicas under Ray Serve",
    )
    parser.add_argument(
        "--replicas",
        default="1",
        metavar="N|LEAST-MOST",
        help="number of replicas of --engine ray; a range scales with the load (default 1)",
    )
    _add_limits(parser.add_argument_group("limits"))


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-batch",
        type=int,
        default=_DEFAULT.batch,
        metavar="N",
        help="most images that go through the network together (default %(default)s)",
    )
    group.add_argument(
        "--max-wait-ms",
        type=float,
        default=_DEFAULT.wait_s * 1e3,
        metavar="MS",
        help="longest wait for a batch to fill; a lone client never waits (default %(default)g)",
    )
    group.add_argument(
        "--queue",
        type=int,
        default=_DEFAULT.queue_items,
        metavar="N",
        help="most requests that wait for a batch (default %(default)s)",
    )
    group.add_argument(
        "--connections",
        type=int,
        default=_DEFAULT.connections,
        metavar="N",
        help="most HTTP connections at one time; a further one takes the place of the one idle longest "
        "(default %(default)s)",
    )
    group.add_argument(
        "--decoders",
        type=int,
        default=_DEFAULT.decoders,
        metavar="N",
        help="processes that decode images (default: one per core, 2 to 8)",
    )
    group.add_argument(
        "--decode-timeout",
        type=float,
        default=_DEFAULT.decode_s,
        metavar="S",
        help="seconds for decoding one image (default %(default)g)",
    )
    group.add_argument(
        "--deadline",
        type=float,
        default=_DEFAULT.deadline_s,
        metavar="S",
        help="seconds from a complete body to the answer (default %(default)g)",
    )
    group.add_argument(
        "--body-timeout",
        type=float,
        default=_DEFAULT.body_s,
        metavar="S",
        help="seconds in which headers, and then a body, must arrive (default %(default)g)",
    )
    group.add_argument(
        "--max-body-mb",
        type=float,
        default=_DEFAULT.body_bytes / 2**20,
        metavar="MB",
        help="largest body of a request (default %(default)g)",
    )
    group.add_argument(
        "--max-megapixels",
        type=float,
        default=_DEFAULT.pixels / 1e6,
        metavar="N",
        help="largest image (default %(default)g)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    settings = settings_from(arguments)
    # Last, for it may fetch them.
    models = tuple(replace(source, path=model_file(source.path)) for source in settings.models)
    settings = replace(settings, models=models)
    # Connections are limited by ``Limits.connections``, which the usual soft limit of 1,024 open files cuts short.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # A client that sends nonsense is answered, and does not fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    if arguments.engine == "ray":
        from aweigh.serve.ray_engine import serve_on_ray

        if arguments.port == 0:
            raise BadInput("--port 0: with --engine ray, give the port")
        names = [{"name": source.name} for source in settings.models]
        on_listening = functools.partial(_print_listening, arguments.json, None, names)
        serve_on_ray(settings, arguments.port, parse_replicas(arguments.replicas), on_listening)
        return 0
    if arguments.replicas != "1":
        raise BadInput(f"--replicas {arguments.replicas}: one process is one replica; give --engine ray")
    from aweigh.serve.server import serve

    def print_listening(where: Listening, services: Services) -> None:
        models = [{"name": model.name, "version": model.version} for model in services.store]
        _print_listening(arguments.json, where.grpc, models, where.http)

    serve(settings, arguments.port, None if arguments.grpc_port < 0 else arguments.grpc_port, print_listening)
    return 0


def _print_listening(as_json: bool, grpc: str | None, models: list[dict[str, str]], http: str) -> None:
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
    """The settings that the flags ask for. Raises BadInput for settings that a server cannot have."""
    for flag, port, least in (("--port", arguments.port, 0), ("--grpc-port", arguments.grpc_port, -1)):
        if not least <= port <= 65535:
            raise BadInput(f"{flag} {port}: expected 0 to 65535")
    # With a token any name is allowed beyond loopback: a page that rebinds DNS to this address does not have it.
    default_hosts = LOOPBACK_HOSTS if is_loopback(arguments.host) else ()
    return Settings(
        models=parse_models(arguments.model),
        device=arguments.device,
        threads=arguments.threads,
        backend=arguments.backend,
        precision=arguments.precision,
        ort_options=arguments.ort_options,
        host=arguments.host,
        token=read_token(arguments.token_file),
        allowed_hosts=tuple(arguments.allowed_host or default_hosts),
        limits=Limits(
            body_bytes=round(arguments.max_body_mb * 2**20),
            pixels=round(arguments.max_megapixels * 1e6),
            connections=arguments.connections,
            queue_items=arguments.queue,
            decoders=arguments.decoders,
            decode_s=arguments.decode_timeout,
            body_s=arguments.body_timeout,
            deadline_s=arguments.deadline,
            batch=arguments.max_batch,
            wait_s=arguments.max_wait_ms / 1e3,
        ),
    )


def read_token(path: Path | None) -> str | None:
    """The token: from the file, else from the environment; None where there is none.

    Never from an argument, which every user of the machine can read. Raises BadInput for a file that is empty or
    no text.
    """
    try:
        token = path.read_text(encoding="utf-8").strip() if path is not None else os.environ.get(TOKEN_VARIABLE)
    except UnicodeDecodeError as error:
        raise BadInput(f"--token-file {path}: expected UTF-8 text ({error.reason})") from error
    if path is not None and not token:
        raise BadInput(f"--token-file {path}: the file is empty")
    return token or None

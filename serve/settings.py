"""What a server is started with: models, addresses, limits. Plain values, so that they travel to Ray's replicas."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aweigh.runtime.errors import BadInput

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHORTEST_TOKEN = 16
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Limits:
    """What one server takes, so that no client can fill its memory or hold it up.

    Attributes:
        body_bytes: largest body of a request, whatever it says of itself.
        json_bytes: largest JSON document; numbers in text block the interpreter far longer than their bytes.
        pixels: of a picture, width times height, judged by its header before decoding.
        pictures: most pictures in one request.
        queue_items: requests that wait for a batch; one more is refused.
        queue_bytes: bodies and prepared pictures held at one time, over all models.
        body_s: seconds in which headers, and then a body, must have arrived.
        deadline_s: seconds from a complete body to the answer.
        batch: most pictures that go through a network at once, where the file takes as many.
        wait_s: most that a batch waits for clients that were here a moment ago; a lone client never waits.
        drain_s: seconds in which a stopping server answers what it has accepted.
    """

    body_bytes: int = 16 << 20
    json_bytes: int = 1 << 20
    pixels: int = 50_000_000
    pictures: int = 16
    queue_items: int = 64
    queue_bytes: int = 256 << 20
    body_s: float = 10.0
    deadline_s: float = 10.0
    batch: int = 8
    wait_s: float = 0.05
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0 or (value == 0 and name != "wait_s"):
                raise BadInput(f"limit {name} {value}: expected more than 0")


@dataclass(frozen=True)
class ModelSource:
    """A model as the command line names it."""

    name: str
    path: str


@dataclass(frozen=True)
class Settings:
    """One server.

    Attributes:
        models: at least one; clients call them by their names.
        device, threads, backend, precision: as for ``Detector``.
        host: the address to listen on.
        token: what clients must send as ``Authorization: Bearer``; None only on a loopback address.
        allowed_hosts: names that the Host header may have; empty: any, which takes a token.
        reloadable: whether a client may have a model's file opened again.
    """

    models: tuple[ModelSource, ...]
    device: str = "cpu"
    threads: int | None = None
    backend: str = "auto"
    precision: str | None = None
    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = LOOPBACK_HOSTS
    reloadable: bool = True
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.models:
            raise BadInput("no model to serve; give --model FILE")
        if self.token is not None and (len(self.token) < _SHORTEST_TOKEN or not self.token.isascii()):
            raise BadInput(f"token: expected at least {_SHORTEST_TOKEN} characters of ASCII")
        if self.token is None and not is_loopback(self.host):
            raise BadInput(
                f"--host {self.host}: others than this machine can reach it, which takes a bearer token; "
                "give --token-file FILE or set AWEIGH_TOKEN"
            )
        if self.token is None and not self.allowed_hosts:
            raise BadInput("any Host header without a token: a web page could reach this server by DNS rebinding")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; other names than ``localhost`` are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_models(arguments: Sequence[str]) -> tuple[ModelSource, ...]:
    """``FILE`` (called by its name without suffix) and ``name=FILE`` as sources.

    Raises BadInput for a name that does not fit into a URL, or that is given twice.
    """
    models: list[ModelSource] = []
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals or "/" in name:
            name, path = Path(argument).stem, argument
        if not _NAME.fullmatch(name):
            raise BadInput(
                f"--model {argument}: {name!r} cannot be a name (letters, digits, _ . -, at most 64); give NAME=FILE"
            )
        if name in {m.name for m in models}:
            raise BadInput(f"--model {argument}: a model {name!r} is there already; give NAME=FILE")
        models.append(ModelSource(name, path))
    return tuple(models)

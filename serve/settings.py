"""What a server is started with: models, address, limits. Plain values, which can be sent to Ray's replicas."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.fetch import source_name
from aweigh.runtime.machine.facts import available_cores

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHORTEST_TOKEN = 16
_MOST_DECODERS = 8  # by default: some thousand images of 1280x720 a second
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Limits:
    """Bounds on what one server accepts, so that no client can fill its memory or block it.

    Attributes:
        body_bytes: largest body of a request, whatever its headers claim.
        json_bytes: largest JSON document; numbers in text block the interpreter far longer than their bytes.
        pixels: largest image, width times height, judged by its header before decoding.
        images: most images in one request.
        connections: most HTTP connections at one time; a further one takes the place of the one idle longest.
        queue_items: most requests that wait for a batch; further ones are refused.
        queue_bytes: most bytes of bodies and prepared images in memory, over all models.
        decoders: processes that decode images; each may take about 20 bytes a pixel of ``pixels``.
        decode_s: seconds for decoding one image, after which its decoder is replaced.
        body_s: seconds in which headers, and then a body, must have arrived.
        deadline_s: seconds from a complete body to the answer.
        batch: most images that go through a network together, where the file takes as many.
        wait_s: longest time that a batch waits for clients that were active a moment ago; a lone client never waits.
        drain_s: seconds in which a stopping server answers the requests that it has accepted.

    Raises:
        BadInput: a limit that is not positive; ``wait_s`` may be 0.

    Example:
        >>> Limits(body_bytes=4 << 20, deadline_s=2.0).queue_items
        64
    """

    body_bytes: int = 16 << 20
    json_bytes: int = 1 << 20
    pixels: int = 50_000_000
    images: int = 16
    connections: int = 1000
    queue_items: int = 64
    queue_bytes: int = 256 << 20
    decoders: int = field(default_factory=lambda: max(2, min(available_cores(), _MOST_DECODERS)))
    decode_s: float = 5.0
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
    """A model file and the name by which clients call it.

    Example:
        >>> Settings((ModelSource("street", "best.onnx"),)).models[0].name
        'street'
    """

    name: str
    path: str


@dataclass(frozen=True)
class Settings:
    """What one server is started with.

    Attributes:
        models: at least one.
        device, threads, backend, precision, ort_options: as for ``aweigh.runtime.Detector``.
        host: the address to listen on.
        token: what clients must send as ``Authorization: Bearer``; None is allowed on a loopback address only.
        allowed_hosts: names that the Host header may have; empty for any name, which requires a token.
        reloadable: whether a client may have a model's file opened again.
        limits: bounds on requests, batches and times.

    Raises:
        BadInput: no model, a token that is missing or too short, or any Host header without a token.

    Example:
        >>> settings = Settings.of("street=best.onnx", limits=Limits(batch=4))
        >>> settings.models, settings.host
        ((ModelSource(name='street', path='best.onnx'),), '127.0.0.1')
    """

    models: tuple[ModelSource, ...]
    device: str = "cpu"
    threads: int | None = None
    backend: str = "auto"
    precision: str | None = None
    ort_options: str = ""
    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = LOOPBACK_HOSTS
    reloadable: bool = True
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.models:
            raise BadInput("no model to serve; give --model FILE")
        if self.token is not None and (len(self.token) < _SHORTEST_TOKEN or not self.token.isascii()):
            raise BadInput(f"token: expected at least {_SHORTEST_TOKEN} ASCII characters")
        if self.token is None and not is_loopback(self.host):
            raise BadInput(
                f"--host {self.host}: other machines can reach this address, which requires a bearer token; "
                "give --token-file FILE or set AWEIGH_TOKEN"
            )
        if self.token is None and not self.allowed_hosts:
            raise BadInput("any Host header without a token: a web page could reach this server by DNS rebinding")

    @classmethod
    def of(cls, *models: str | os.PathLike[str], **settings: Any) -> Settings:
        """Settings with each model as ``FILE`` or ``NAME=FILE``, see ``parse_models``.

        Args:
            settings: any other attribute.
        """
        return cls(parse_models([os.fspath(model) for model in models]), **settings)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; names other than ``localhost`` are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_models(arguments: Sequence[str]) -> tuple[ModelSource, ...]:
    """Models as the command line has them.

    Args:
        arguments: ``FILE``, named by the file without its suffix, or ``NAME=FILE``. An address is named by its file, a
            repository of a hub by its own name, or that of the file in it.

    Raises:
        BadInput: a name that does not fit into a URL, or one that occurs twice.
    """
    models: list[ModelSource] = []
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals or "/" in name:
            name, path = source_name(argument, "--model"), argument
        if not _NAME.fullmatch(name):
            raise BadInput(
                f"--model {argument}: {name!r} cannot be a name (letters, digits, _ . -, at most 64); give NAME=FILE"
            )
        if name in {m.name for m in models}:
            raise BadInput(f"--model {argument}: there is a model {name!r} already; give NAME=FILE")
        models.append(ModelSource(name, path))
    return tuple(models)

"""A Hugging Face hub: how a repository is written, which token is sent, and the client's errors in our words."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from aweigh.runtime.errors import BadInput, CannotRun, install_advice

TOKEN_VARIABLE = "HF_TOKEN"
ENDPOINT_VARIABLE = "HF_ENDPOINT"
_PLACE = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(/(?P<file>[\w.-]+(/[\w.-]+)*))?(@(?P<revision>[\w./-]+))?")
_UNAUTHORISED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


@dataclass(frozen=True)
class HubPlace:
    """A repository of a hub, or a file in it.

    Attributes:
        repo: ``owner/name``.
        file: its path in the repository; None where none is named.
        revision: a branch, a tag or a commit; None is the repository's main branch.

    Example:
        >>> HubPlace.parse("hf:owner/name/small/best.onnx@v2", "--model")
        HubPlace(repo='owner/name', file='small/best.onnx', revision='v2')
    """

    repo: str
    file: str | None = None
    revision: str | None = None

    @classmethod
    def parse(cls, text: str, flag: str) -> Self:
        """``hf:owner/name[/FILE][@revision]``. Raises BadInput, whose message ``flag`` begins, for anything else."""
        match = _PLACE.fullmatch(text)
        if match is None or ".." in (match["file"] or "").split("/"):
            raise BadInput(f"{flag} {text}: expected hf:owner/name, hf:owner/name/FILE or either with @revision")
        return cls(match["repo"], match["file"], match["revision"])


def hub_client(what: str) -> Any:
    """The module huggingface_hub, which draws progress bars on a terminal alone.

    Args:
        what: begins the message.

    Raises:
        CannotRun: it is not installed.
    """
    try:
        import huggingface_hub
        from huggingface_hub.utils import disable_progress_bars
    except ModuleNotFoundError as error:
        raise CannotRun(f"{what}: needs huggingface_hub: {install_advice('hub')}") from error
    if not sys.stderr.isatty():
        disable_progress_bars()
    return huggingface_hub


def endpoint() -> str | None:
    """The hub's address in ``HF_ENDPOINT``; None is the public one."""
    return os.environ.get(ENDPOINT_VARIABLE) or None


def writing_token(what: str) -> str:
    """The token in ``HF_TOKEN``. It is sent over TLS, or to this machine, and never printed.

    Raises:
        CannotRun: there is none.
        BadInput: ``HF_ENDPOINT`` is the address of another machine without TLS.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise CannotRun(f"{what}: needs a token that may write, in the environment variable {TOKEN_VARIABLE}")
    place = urllib.parse.urlsplit(endpoint() or "https://")
    if place.scheme != "https" and not _is_this_machine(place.hostname or ""):
        raise BadInput(f"{ENDPOINT_VARIABLE}={endpoint()}: expected https: the token would be sent in the open")
    return token


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """The client's errors within the block, in our words.

    Raises:
        BadInput: no such repository or revision, a malformed name, a card that the hub refuses.
        CannotRun: the token is not accepted, or may not write there; the hub cannot be reached.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise BadInput(f"{what}: {_first_line(error)}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status == _UNAUTHORISED:
            raise CannotRun(f"{what}: the hub does not accept the token in {TOKEN_VARIABLE} (401)") from error
        if status == _FORBIDDEN:
            raise CannotRun(f"{what}: the token in {TOKEN_VARIABLE} may not write there (403)") from error
        if status == _NOT_FOUND:
            raise BadInput(f"{what}: no such repository or revision (404); is the name right?") from error
        raise CannotRun(f"{what}: the hub answers {_first_line(error)}") from error
    except (errors.HTTPError, ConnectionError, TimeoutError) as error:  # before there is an answer
        raise CannotRun(f"{what}: the hub cannot be reached ({_first_line(error)})") from error
    except RuntimeError as error:  # as the client reports an upload that failed
        cause = f" ({_first_line(error.__cause__)})" if error.__cause__ is not None else ""
        raise CannotRun(f"{what}: {_first_line(error)}{cause}") from error
    except ValueError as error:  # of the head of the card, and of answers that are none of a hub
        raise BadInput(f"{what}: {' '.join(str(error).split())}") from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

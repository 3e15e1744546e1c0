"""What handlers read off a request before its body: its media type, and the server that it came to."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from starlette.requests import Request

from aweigh.serve.problem import Problem
from aweigh.serve.services import Services

_MAX_HEADER_LENGTH = 1 << 31


def services_of(request: Request) -> Services:
    """The services of the application that a request came to."""
    return cast(Services, request.app.state.services)


def content_type(request: Request) -> str:
    """The media type in lower case without parameters; empty where there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_type(request: Request, allowed: Collection[str]) -> str:
    """The media type of the body.

    Args:
        allowed: media types, ``group/*`` for all of a group, and the empty string for a request without a type.

    Raises:
        Problem: 415 for another type, and for a compressed body.
    """
    # A body that says it is compressed would have to be inflated to be measured.
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Problem(415, f"Content-Encoding {encoding[:40]!r}: expected a body that is not compressed")
    media_type = content_type(request)
    if media_type not in allowed and f"{media_type.partition('/')[0]}/*" not in allowed:
        raise Problem(415, f"Content-Type {media_type[:80]!r}: expected {', '.join(a for a in sorted(allowed) if a)}")
    return media_type


def json_length(request: Request, header: str) -> int | None:
    """How many bytes of a body with binary tensors are JSON; None where the header is missing: all of them.

    Raises:
        Problem: 422 for a value that is no whole number from 1 to 2 147 483 648.
    """
    text = request.headers.get(header)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and 1 <= int(text) <= _MAX_HEADER_LENGTH):
        raise Problem(422, f"{header} {text[:40]!r}: expected a whole number from 1 to {_MAX_HEADER_LENGTH}")
    return int(text)

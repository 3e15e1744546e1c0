"""Access: whether a request may be answered at all, by its host, its origin and its token."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from aweigh.serve.problem import Problem
from aweigh.serve.settings import Settings

# A name, an IPv4 address or an IPv6 address in brackets; then, perhaps, a port.
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class Access:
    """The rules of one server. Each method raises Problem where a request breaks its rule, and else returns nothing."""

    def __init__(self, settings: Settings) -> None:
        self._token = settings.token
        self._allowed_hosts = frozenset(name.strip("[]").lower() for name in settings.allowed_hosts)

    def require_host(self, hosts: Sequence[str], *, required: bool, any_name: bool) -> None:
        """One Host header with a name of this server; a page that rebinds its own name to this machine has another.

        Args:
            hosts: the values of all Host headers.
            required: whether there must be one, as HTTP/1.1 demands.
            any_name: accept every name.

        Raises:
            Problem: 400.
        """
        if len(hosts) > 1 or (required and not hosts):
            raise Problem(400, f"Host header: got {len(hosts)}, expected one")
        name = host_name(hosts[0]) if hosts else None
        if self._allowed_hosts and not any_name and name not in self._allowed_hosts:
            raise Problem(400, "Host header: not a name of this server; see --allowed-host")

    def require_same_origin(self, origins: Sequence[str], hosts: Sequence[str]) -> None:
        """No Origin header, or that of a page from this server.

        A page from elsewhere may send a form with the user's browser, although it cannot read the answer.

        Raises:
            Problem: 403.
        """
        host = hosts[0].lower() if hosts else ""
        if any(origin_host(origin) != host for origin in origins):
            raise Problem(403, "Origin header: a request from another site's page")

    def require_token(self, authorization: str | None, where: str) -> None:
        """The bearer token, where the server has one.

        Args:
            authorization: value of the header or metadata; None where it is missing.
            where: how the client sends it, for the message.

        Raises:
            Problem: 401.
        """
        if self._token is not None and not is_right_token(authorization, self._token):
            raise Problem(401, f"expected the {where} Bearer TOKEN")


def is_right_token(authorization: str | None, token: str) -> bool:
    """Whether an Authorization header holds the token, in a time that does not depend on how much of it is right.

    Example:
        >>> is_right_token("Bearer 0123456789abcdef", "0123456789abcdef")
        True
    """
    scheme, _, given = (authorization or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


def host_name(host: str) -> str | None:
    """Name or address in a Host header, in lower case, without port and brackets; None where the header is malformed.

    Example:
        >>> host_name("LOCALHOST:8000"), host_name("[::1]:80"), host_name("[::1].example")
        ('localhost', '::1', None)
    """
    match = _HOST.fullmatch(host)
    return match["name"].strip("[]").lower() if match else None


def origin_host(origin: str) -> str | None:
    """Host and port of an Origin header, in lower case; None where there is none in it.

    Example:
        >>> origin_host("http://localhost:8000"), origin_host("null")
        ('localhost:8000', None)
    """
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None

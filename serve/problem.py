"""Problem: a request that cannot be answered, as RFC 9457 and as a gRPC status."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from aweigh.runtime.errors import AweighError, BadInput, CannotRun, NotAnImage, TooLarge, Undecodable

PROBLEM_JSON = "application/problem+json"
# A label of the metric of errors: a fixed list, never made from what a client sent.
_KINDS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_timeout",
    409: "conflict",
    413: "too_large",
    415: "unsupported_type",
    422: "unprocessable",
    431: "too_large",
    499: "abandoned",
    500: "internal",
    503: "overloaded",
    504: "deadline",
}
# The one table from the runtime's errors to HTTP statuses. A class that is missing has the status of its base.
_STATUSES: dict[type[AweighError], int] = {
    AweighError: 500,
    BadInput: 400,
    NotAnImage: 415,
    TooLarge: 413,
    Undecodable: 422,
    CannotRun: 503,
}


class Problem(Exception):
    """Why a request is not answered. Any code behind a request may raise it; HTTP and gRPC each have a form for it.

    Attributes:
        status: HTTP status code; gRPC has a table of its own from these.
        detail: what was got and what was expected, for the client to read.
        retry_after_s: seconds after which the client may try again; None where that would not help.
    """

    def __init__(self, status: int, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s

    @property
    def kind(self) -> str:
        """Label of the metric of errors."""
        return _KINDS.get(self.status, "other")

    def to_dict(self) -> dict[str, Any]:
        """The document; ``error`` repeats ``detail`` for clients of the Open Inference Protocol, which read that name.

        Example:
            >>> Problem(404, "no model 'b'; there are a").to_dict()["title"]
            'Not Found'
        """
        title = "Client Closed Request" if self.status == 499 else HTTPStatus(self.status).phrase
        return {
            "type": "about:blank",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            "error": self.detail,
        }

    def headers(self) -> dict[str, str]:
        """HTTP headers that belong to the status."""
        headers = {"Cache-Control": "no-store"}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="aweigh"'
        return headers


def overloaded(detail: str) -> Problem:
    """503 with Retry-After."""
    return Problem(503, detail, retry_after_s=1)


def from_error(error: AweighError) -> Problem:
    """The Problem for an error of the runtime: the client's input (4xx), or a failure of the server (500, 503).

    Example:
        >>> from_error(BadInput("batch of 9: this file takes 1 to 8")).status
        400
    """
    status = next(_STATUSES[base] for base in type(error).__mro__ if base in _STATUSES)
    return overloaded(str(error)) if status == 503 else Problem(status, str(error))

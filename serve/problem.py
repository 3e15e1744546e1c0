"""Problem: a request that cannot be answered, as RFC 9457 and as a gRPC status."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from aweigh.runtime.errors import AweighError, BadInput, CannotRun, NotAnImage, TooLarge, Undecodable

PROBLEM_JSON = "application/problem+json"
# What an error of the runtime means to a client, the most specific class first; any other is 500.
_STATUSES: tuple[tuple[type[AweighError], int], ...] = (
    (NotAnImage, 415),
    (TooLarge, 413),
    (Undecodable, 422),
    (BadInput, 400),
)
# Kinds are labels of a metric: few, and never made from what a client sent.
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


class Problem(Exception):
    """Raised anywhere behind a request; each door turns it into its own form.

    Attributes:
        status: of HTTP.
        detail: what was got, what was expected; shown to the client.
        retry_after_s: for 503, when to come again.
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

    def content(self) -> dict[str, Any]:
        """The document; ``error`` repeats the detail for clients of the Open Inference Protocol, who read that name."""
        title = "Client Closed Request" if self.status == 499 else HTTPStatus(self.status).phrase
        return {
            "type": "about:blank",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            "error": self.detail,
        }

    def headers(self) -> dict[str, str]:
        """Those that belong to the status."""
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
    """The answer to a client: 400, 413, 415 or 422 for its own input; 500 or 503 where the server failed."""
    if isinstance(error, CannotRun):
        return overloaded(str(error))
    return Problem(next((status for kind, status in _STATUSES if isinstance(error, kind)), 500), str(error))

"""What an export, a comparison and an engine build return."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from aweigh.export.proof.bisect import Bisection
from aweigh.export.proof.receipt import Receipt


@dataclass(frozen=True)
class VerifyResult:
    """A file, and what the comparison with the other one says.

    Attributes:
        artifact: the file that was compared (or exported).
        bytes: its size; sha256: its hash.
        receipt: None where nothing was compared.
        receipt_path: where the receipt was written, its page next to it.
        warnings: what a user must know although no check failed on it.
    """

    artifact: Path
    bytes: int
    sha256: str
    receipt: Receipt | None = None
    receipt_path: Path | None = None
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.verdict}: {self.artifact}, {self.bytes / 1e6:.1f} MB>"

    def _repr_html_(self) -> str:
        """The receipt as a table, for a notebook."""
        return self.receipt._repr_html_() if self.receipt else f"<p>{escape(repr(self))}</p>"

    @property
    def verdict(self) -> Literal["passed", "failed", "not verified"]:
        return self.receipt.verdict if self.receipt else "not verified"

    @property
    def page_path(self) -> Path | None:
        """The receipt as a page of HTML."""
        return self.receipt_path.with_suffix(".html") if self.receipt_path else None

    @property
    def failed(self) -> tuple[str, ...]:
        """The checks that failed, each with its figure and its limit."""
        checks = self.receipt.checks if self.receipt else ()
        return tuple(f"{c.name}: {c.measured}, limit {c.limit}" for c in checks if not c.passed)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        receipt = self.receipt
        return {
            "artifact": str(self.artifact),
            "receipt": str(self.receipt_path) if self.receipt_path else None,
            "page": str(self.page_path) if self.page_path else None,
            "verdict": self.verdict,
            "failed_at": receipt.failed_at if receipt else None,
            "failed": list(self.failed),
            "detections_compared": receipt.detections if receipt else None,
            "detections_on": {"pictures": receipt.images, "runs": len(receipt.runs)} if receipt else None,
            "ap": receipt.ap.to_dict() if receipt and receipt.ap else None,
            "tensorrt_ready": receipt.operators.ready if receipt and receipt.operators else None,
            "warnings": list(self.warnings),
            "bytes": self.bytes,
            "sha256": self.sha256,
        }


@dataclass(frozen=True, repr=False)
class ExportResult(VerifyResult):
    """An exported file and its receipt.

    Attributes:
        bisection: where one was asked for: the error of each layer in the file's precision.
    """

    bisection: Bisection | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        more = {"bisection": self.bisection.to_dict()} if self.bisection else {}
        return {**super().to_dict(), **more}

"""The receipt: proof, or disproof, that an exported file does what the trained model did."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from aweigh.export.engine.summary import BuildSummary
from aweigh.export.graph.operators import OperatorReport
from aweigh.export.proof.checks import Check
from aweigh.export.proof.metrics.ap import ApComparison
from aweigh.export.proof.stages import StageError, StageErrors
from aweigh.runtime.agreement.match import Pairing, ScoredBoxes
from aweigh.runtime.agreement.tolerances import Tolerances
from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.files.digest import receipt_path
from aweigh.runtime.files.golden import Golden
from aweigh.runtime.pages import html_table
from aweigh.runtime.spec import ModelSpec

RECEIPT_SCHEMA = "1.0"


@dataclass(frozen=True)
class Drawn:
    """An image with what both models found in it: (boxes_xyxy, scores, labels) each, network pixels, and in pairs."""

    image: Golden
    trained: ScoredBoxes
    exported: ScoredBoxes
    pairing: Pairing


@dataclass(frozen=True)
class Receipt:
    """All that was compared.

    Attributes:
        artifact: name of the file this is about; sha256, bytes: of it.
        against: name of what it was compared with, and what ran that; against_sha256: of its file.
        warnings: what a user must know although no check failed on it.
        source: where the images come from.
        detections: of the trained model, over all images and batch sizes compared.
        replaced: default of each tolerance that was overridden.
        ap: figures of both, their difference on ``split`` and how far the best score thresholds moved; None without
            data.
        failed_at: the stage to look at first; None where all passed.
        operators: whether TensorRT has those of an ONNX file, by its list; None for any other file.
        tensorrt: what the real library made of the file; None where it was not asked.
        drawn: for the page only; those that decide come first.

    Example:
        >>> import shutil
        >>> from aweigh.export import verify
        >>> receipt = verify(shutil.copy(model_path, tmp_path / "copy.onnx"), model_path).receipt
        >>> receipt.verdict, receipt.checks[0].name, receipt.checks[0].measured
        ('passed', 'contract', 'same')
    """

    artifact: str
    runs_in: str
    sha256: str
    bytes: int
    against: str
    against_sha256: str
    spec: ModelSpec
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]
    source: str
    runs: tuple[StageErrors, ...]
    tolerances: Tolerances
    replaced: Mapping[str, float]
    ap: ApComparison | None
    failed_at: str | None
    operators: OperatorReport | None
    created: str
    machine: dict[str, Any]
    drawn: tuple[Drawn, ...] = ()
    tensorrt: BuildSummary | None = None

    def __repr__(self) -> str:
        ap = self.ap
        values = None if ap is None else (ap.trained["AP"], ap.exported["AP"])
        shown = "" if values is None or None in values else f", AP {values[0]:.4f} and {values[1]:.4f}"
        return (
            f"<Receipt {self.verdict}: {self.artifact} against {self.against}, {self.detections} detections on "
            f"{self.images} images{shown}>"
        )

    def _repr_html_(self) -> str:
        """The checks as a table, for a notebook; the page next to the file has all of it."""
        rows = [
            [check.name, check.measured, check.limit, "passed" if check.passed else "FAILED"] for check in self.checks
        ]
        return f"<p>{escape(repr(self)[1:-1])}</p>{html_table(['check', 'measured', 'limit', ''], rows)}"

    @property
    def verdict(self) -> Literal["passed", "failed"]:
        return "passed" if all(check.passed for check in self.checks) else "failed"

    @property
    def images(self) -> int:
        """How many images detections were compared on, each once for every run."""
        return max((run.images for run in self.runs), default=0)

    @property
    def detections(self) -> int:
        return sum(run.match.compared for run in self.runs if run.match)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; an infinite error is null."""
        return {
            "schema": RECEIPT_SCHEMA,
            "verdict": self.verdict,
            "failed_at": self.failed_at,
            "artifact": self.artifact,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "runs_in": self.runs_in,
            "against": self.against,
            "against_sha256": self.against_sha256,
            "parents": dict(self.spec.parents),
            "warnings": list(self.warnings),
            "checks": [check.to_dict() for check in self.checks],
            "pictures": self.source,
            "detections_compared": self.detections,
            "detections_on": {"pictures": self.images, "runs": len(self.runs)},
            "runs": [_run_dict(run) for run in self.runs],
            "tolerances": asdict(self.tolerances),
            "tolerances_overridden": {name: {"default": value} for name, value in self.replaced.items()},
            "ap": self.ap.to_dict() if self.ap else None,
            "tensorrt_ready": self.operators.ready if self.operators else None,
            "operators": asdict(self.operators) if self.operators else None,
            "tensorrt": self.tensorrt.to_dict() if self.tensorrt else None,
            "spec": self.spec.to_dict(),
            "machine": self.machine,
            "created": self.created,
        }

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def page_path(model: Path) -> Path:
    """``best.receipt.html`` next to ``best.onnx``."""
    return receipt_path(model).with_suffix(".html")


def _run_dict(run: StageErrors) -> dict[str, Any]:
    return {
        "batch": run.batch,
        "size_hw": list(run.size_hw),
        "pictures": run.images,
        "stages": [_stage_dict(stage) for stage in run.stages],
        "match": None if run.match is None else asdict(run.match),
        "post_processing": None if run.post is None else asdict(run.post),
        "rounding": None if run.rounding is None else run.rounding.to_dict(),
    }


def _stage_dict(stage: StageError) -> dict[str, Any]:
    return {name: value if value != math.inf else None for name, value in asdict(stage).items()}

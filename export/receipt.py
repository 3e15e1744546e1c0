"""The receipt: proof, or disproof, that an exported file does what the trained model did."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import onnx

from aweigh.export.checks import Check, check_ap, check_contract, check_precision, check_runs, failed_at
from aweigh.export.compare import Comparison, Exported, Reference, StageError, compare, rows
from aweigh.export.golden import golden_pictures
from aweigh.export.operators import OperatorReport, check_operators
from aweigh.export.tolerances import override_warnings, tolerances_for
from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import CheckFailed
from aweigh.runtime.golden import Golden
from aweigh.runtime.inspection import file_sha256, receipt_path
from aweigh.runtime.machine import describe
from aweigh.runtime.spec import ModelSpec
from aweigh.runtime.tolerances import Tolerances
from aweigh.train.checkpoint import Checkpoint
from aweigh.train.data.records import Split
from aweigh.train.deployable import Deployable
from aweigh.train.evaluate import SUMMARY, FilePredictor, TorchPredictor, evaluate

RECEIPT_SCHEMA = "1.0"
PICTURES = 6


@dataclass(frozen=True)
class Drawn:
    """A picture with what both models found in it: (boxes_xyxy, scores, labels) each, network pixels."""

    picture: Golden
    trained: tuple[Any, Any, Any]
    exported: tuple[Any, Any, Any]


@dataclass(frozen=True)
class Receipt:
    """All that was compared.

    Attributes:
        artifact: name of the file this is about; sha256, bytes: of it.
        warnings: what the reader must know although no check failed on it.
        source: where the pictures come from.
        detections: of the trained model, over all pictures and batch sizes compared.
        replaced: default of each tolerance that was overridden.
        ap: figures of both and their difference on ``split``; None without data.
        failed_at: the stage to look at first; None where all passed.
        drawn: for the page alone.
    """

    artifact: str
    sha256: str
    bytes: int
    spec: ModelSpec
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]
    source: str
    runs: tuple[Comparison, ...]
    tolerances: Tolerances
    replaced: Mapping[str, float]
    ap: dict[str, Any] | None
    failed_at: str | None
    operators: OperatorReport
    created: str
    machine: dict[str, Any]
    drawn: tuple[Drawn, ...] = ()

    @property
    def verdict(self) -> Literal["passed", "failed"]:
        return "passed" if all(check.passed for check in self.checks) else "failed"

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
            "parents": dict(self.spec.parents),
            "warnings": list(self.warnings),
            "checks": [asdict(check) for check in self.checks],
            "pictures": self.source,
            "detections_compared": self.detections,
            "runs": [_run_dict(run) for run in self.runs],
            "tolerances": asdict(self.tolerances),
            "tolerances_overridden": {name: {"default": value} for name, value in self.replaced.items()},
            "ap": self.ap,
            "tensorrt_ready": self.operators.ready,
            "operators": asdict(self.operators),
            "spec": self.spec.to_dict(),
            "machine": self.machine,
            "created": self.created,
        }

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def make_receipt(
    artifact: Path,
    checkpoint: Checkpoint,
    split: Split | None = None,
    warnings: Sequence[str] = (),
    threads: int | None = None,
    given: Mapping[str, float] | None = None,
) -> Receipt:
    """Compare ``artifact`` with the checkpoint it came from.

    Args:
        split: pictures to compare on, and to evaluate both on; without it pictures are generated.
        warnings: further ones, from the caller.
        threads: of ONNX Runtime.
        given: tolerances to be used instead of the precision's.

    Raises:
        BadInput: no file of ours, a data set of other categories, or a tolerance below 0.
    """
    exported = Exported(artifact, threads)
    spec = exported.backend.spec
    tolerances, replaced = tolerances_for(spec.precision, given or {})
    model = onnx.load(artifact)
    deployable = Deployable(checkpoint.detector(), spec.post)
    reference = Reference(deployable)
    checks = [check_contract(spec, checkpoint), *check_precision(model, spec)]
    runs: list[Comparison] = []
    drawn: tuple[Drawn, ...] = ()
    ap = None
    try:
        for pictures in _picture_sets(spec, split):
            runs += [compare(reference, exported, pictures, batch, tolerances) for batch in batches(spec)]
            drawn = drawn or _drawn(reference, exported, pictures, spec)
        if split is not None and spec.post.kind != "raw":
            ap = _average_precision(artifact, deployable, spec, split, threads)
    except CheckFailed as error:
        checks.append(Check("execution", False, str(error), "runs"))
    checks += check_runs(runs, tolerances)
    if ap is not None:
        checks.append(check_ap(ap, tolerances))
    receipt = Receipt(
        artifact=artifact.name,
        sha256=file_sha256(artifact),
        bytes=artifact.stat().st_size,
        spec=spec,
        checks=tuple(checks),
        warnings=(),
        source=f"{split.name} split, {len(split.records)} pictures" if split else "generated here (no --data)",
        runs=tuple(runs),
        tolerances=tolerances,
        replaced=replaced,
        ap=ap,
        failed_at=failed_at(checks, runs, tolerances),
        operators=check_operators(model),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe() | {name: version(name) for name in ("torch", "onnx", "onnxscript")},
        drawn=drawn,
    )
    return replace(receipt, warnings=(*warnings, *_warnings(receipt, exported)))


def batches(spec: ModelSpec) -> list[int]:
    """Batch sizes compared: 1 and 3 where the file takes them, else its smallest and its largest."""
    low, high = spec.batch
    return [b for b in (1, 3) if low <= b <= high] or sorted({low, high})


def page_path(model: Path) -> Path:
    """``best.receipt.html`` beside ``best.onnx``."""
    return receipt_path(model).with_suffix(".html")


def _picture_sets(spec: ModelSpec, split: Split | None) -> list[list[Golden]]:
    """Pictures at the file's size and, where it takes others, at a smaller one."""
    sets = [golden_pictures(spec.input, PICTURES, split)]
    if spec.input.dynamic_size and spec.input.resize != "keep-ratio":
        multiple = spec.input.pad_multiple
        height, width = (max(multiple, side * 3 // 4 // multiple * multiple) for side in spec.input.size_hw)
        sets.append(golden_pictures(replace(spec.input, size_hw=(height, width)), 3, split))
    return sets


def _average_precision(
    artifact: Path, deployable: Deployable, spec: ModelSpec, split: Split, threads: int | None
) -> dict[str, Any]:
    trained = evaluate(TorchPredictor(deployable, spec), split, note="trained model")
    # What the self-test would refuse, the receipt shows.
    with FilePredictor(artifact, threads=threads, self_test=False) as predictor:
        exported = evaluate(predictor, split, note="exported file")
    difference = {
        name: None if trained[name] is None or exported[name] is None else exported[name] - trained[name]
        for name in SUMMARY
    }
    figures = {"trained": trained, "exported": exported}
    return {
        "split": split.name,
        "images": len(split.records),
        **{side: {name: values[name] for name in SUMMARY} for side, values in figures.items()},
        "difference": difference,
    }


def _warnings(receipt: Receipt, exported: Exported) -> list[str]:
    found = override_warnings(receipt.tolerances, receipt.replaced, receipt.spec.precision)
    if receipt.spec.post.kind == "raw":
        found.append("A raw file has no detections: boxes and scores of all points were compared, and no AP.")
    elif receipt.detections == 0:
        found.append(
            "The trained model found nothing on the pictures compared: the tensors between the stages were compared, "
            "detections were not. Train longer, lower --conf, or give --data with pictures that show its objects."
        )
    if not exported.stages:
        found.append(
            "The file has no named tensors between its stages (edited by another tool?): "
            "its outputs alone were compared."
        )
    return found


def _drawn(reference: Reference, exported: Exported, pictures: Sequence[Golden], spec: ModelSpec) -> tuple[Drawn, ...]:
    if spec.post.kind == "raw":
        return ()
    low = spec.batch[0]
    result = []
    for picture in pictures[:4]:
        images_u8 = picture.image_u8[None].repeat(low, axis=0)
        result.append(Drawn(picture, rows(reference(images_u8), 0), rows(exported(images_u8), 0)))
    return tuple(result)


def _run_dict(run: Comparison) -> dict[str, Any]:
    return {
        "batch": run.batch,
        "size_hw": list(run.size_hw),
        "pictures": run.pictures,
        "stages": [_stage_dict(stage) for stage in run.stages],
        "match": None if run.match is None else asdict(run.match),
    }


def _stage_dict(stage: StageError) -> dict[str, Any]:
    return {name: value if value != math.inf else None for name, value in asdict(stage).items()}

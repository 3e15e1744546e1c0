"""The proof behind a receipt: one model held against another, on golden images and on a split of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from aweigh.export.graph.operators import check_operators
from aweigh.export.proof.checks import (
    Check,
    Part,
    check_contract,
    check_engine,
    check_precision,
    check_runs,
    failed_at,
)
from aweigh.export.proof.images import golden_images
from aweigh.export.proof.metrics.ap import ApComparison, check_ap, compare_ap, evaluate_side
from aweigh.export.proof.metrics.threshold_shift import check_thresholds
from aweigh.export.proof.ranges import check_range
from aweigh.export.proof.receipt import Drawn, Receipt
from aweigh.export.proof.rounding import rounded_twin
from aweigh.export.proof.showing import drawn_of, images_of_ap, joined, worst_first
from aweigh.export.proof.sides import EngineSide, OnnxSide, Side, Trained
from aweigh.export.proof.stages import StageErrors, compare
from aweigh.runtime.agreement.tolerances import override_warnings, tolerances_for
from aweigh.runtime.errors import BadInput, CheckFailed
from aweigh.runtime.files.golden import Golden
from aweigh.runtime.machine.facts import describe
from aweigh.runtime.spec import ModelSpec
from aweigh.train.checkpoint import Checkpoint
from aweigh.train.data.records import Split

IMAGES = 6


@dataclass(frozen=True)
class Scope:
    """On how many images of a split, and in which batches; () for 1 and 3 where they are taken.

    ``seed`` draws the images; None takes them evenly spaced.
    """

    images: int = IMAGES
    batches: tuple[int, ...] = ()
    seed: int | None = None


def make_receipt(
    artifact: Path,
    trained: Checkpoint | Trained,
    split: Split | None = None,
    warnings: Sequence[str] = (),
    threads: int | None = None,
    given: Mapping[str, float] | None = None,
    scope: Scope | None = None,
    strict: bool = False,
) -> Receipt:
    """Compare an ONNX file with the checkpoint it came from, see ``receipt_of``.

    Raises BadInput where ``artifact`` is not a file of aweigh's, and as ``receipt_of`` does.
    """
    with OnnxSide(artifact, threads) as exported:
        reference = trained if isinstance(trained, Trained) else Trained(trained, exported.spec)
        return receipt_of(exported, reference, split, warnings, scope, given, strict)


def receipt_of(
    subject: Side,
    reference: Side,
    split: Split | None = None,
    warnings: Sequence[str] = (),
    scope: Scope | None = None,
    given: Mapping[str, float] | None = None,
    strict: bool = False,
    ap: ApComparison | None = None,
) -> Receipt:
    """Hold ``subject`` against ``reference``.

    Args:
        split: images to compare on, and to evaluate both on; without it images are generated.
        warnings: further ones, from the caller.
        scope: how many images, in which batches.
        given: tolerances to be used instead of the precision's.
        strict: equality instead of "no worse", see ``check_ap`` and ``check_runs``.
        ap: of both on ``split``, where the caller has it already.

    Raises:
        BadInput: a data set of other categories, batches that one of the two does not take, or a tolerance below 0.
    """
    assert subject.path is not None
    spec, scope = subject.spec, scope or Scope()
    if (spec.post.kind == "raw") != (reference.spec.post.kind == "raw"):
        raise BadInput(
            f"{subject.name} has post-processing {spec.post.kind!r}, {reference.name} {reference.spec.post.kind!r}: "
            "all points and detections cannot be compared; export both alike"
        )
    tolerances, replaced = tolerances_for((spec.precision, reference.spec.precision), given or {})
    post_tolerances, _ = tolerances_for("fp32", given or {})
    checks = [check_contract(spec, reference.spec), *_precision_checks(subject)]
    sizes = batches(spec, reference.spec, scope.batches)
    runs: list[StageErrors] = []
    drawn: tuple[Drawn, ...] = ()
    twin = None if strict else rounded_twin(reference, subject)
    try:
        sets = []
        for images in _image_sets(spec, split, scope):
            if isinstance(subject, OnnxSide) and not runs:
                checks += check_range(subject, images)
            own = [
                compare(reference, subject, images, batch, tolerances, post_tolerances, twin, given or {})
                for batch in sizes
            ]
            runs += own
            sets.append((images, own))
        drawn = drawn_of(reference, subject, worst_first(sets), tolerances)
        if ap is None and split is not None and spec.post.kind != "raw":
            ap = compare_ap(evaluate_side(subject, split), evaluate_side(reference, split), split, tolerances)
        if ap is not None and split is not None and not check_ap(ap, tolerances, strict).passed:
            of_ap = drawn_of(reference, subject, images_of_ap(ap, split, spec.input), tolerances)
            alone = all(check.passed for check in check_runs(runs, tolerances, strict, post_tolerances))
            drawn = joined(drawn, of_ap, alone)
    except CheckFailed as error:
        checks.append(Check("execution", False, str(error), "runs", Part.OUTPUTS))
    checks += check_runs(runs, tolerances, strict, post_tolerances)
    if ap is not None:
        checks += [check_ap(ap, tolerances, strict), *check_thresholds(ap.score_threshold, tolerances)]
    receipt = Receipt(
        artifact=subject.path.name,
        runs_in=subject.runs_in,
        sha256=subject.sha256,
        bytes=subject.path.stat().st_size,
        against=reference.name,
        against_sha256=reference.sha256,
        spec=spec,
        checks=tuple(checks),
        warnings=(),
        source=f"{split.name} split, {len(split.records)} images" if split else "generated here (no --data)",
        runs=tuple(runs),
        tolerances=tolerances,
        replaced=replaced,
        ap=ap,
        failed_at=failed_at(checks, runs, tolerances),
        operators=check_operators(subject.typed, typed=True) if isinstance(subject, OnnxSide) else None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe() | {name: version(name) for name in ("torch", "onnx", "onnxscript")},
        drawn=drawn,
    )
    return replace(receipt, warnings=(*warnings, *_warnings(receipt, subject, reference)))


def batches(spec: ModelSpec, other: ModelSpec, asked: Sequence[int] = ()) -> list[int]:
    """Batch sizes compared: those asked for, else 1 and 3 where both take them, else the smallest and the largest.

    Raises BadInput where the two take no batch in common, or not one that is asked for.
    """
    low, high = max(spec.batch[0], other.batch[0]), min(spec.batch[1], other.batch[1])
    if low > high:
        raise BadInput(f"the files take batches of {spec.batch} and {other.batch}: none in common")
    refused = [batch for batch in asked if not low <= batch <= high]
    if refused:
        raise BadInput(f"--batches: batch {refused[0]}, but {low} to {high} can be compared")
    return list(asked) or [b for b in (1, 3) if low <= b <= high] or sorted({low, high})


def _image_sets(spec: ModelSpec, split: Split | None, scope: Scope) -> list[list[Golden]]:
    """Images at the file's size and, where it takes others, at a smaller one."""
    sets = [golden_images(spec.input, scope.images, split, scope.seed)]
    if spec.input.dynamic_size and spec.input.resize != "keep-ratio":
        multiple = spec.input.pad_multiple
        height, width = (max(multiple, side * 3 // 4 // multiple * multiple) for side in spec.input.size_hw)
        sets.append(golden_images(replace(spec.input, size_hw=(height, width)), 3, split, scope.seed))
    return sets


def _precision_checks(subject: Side) -> list[Check]:
    if isinstance(subject, OnnxSide):
        return check_precision(subject.typed, subject.spec)
    return check_engine(subject.sidecar) if isinstance(subject, EngineSide) else []


def _warnings(receipt: Receipt, subject: Side, reference: Side) -> list[str]:
    precisions = dict.fromkeys((subject.spec.precision, reference.spec.precision))
    found = override_warnings(receipt.tolerances, receipt.replaced, " against ".join(precisions))
    if receipt.spec.post.kind == "raw":
        found.append("A raw file has no detections: boxes and scores of all points were compared, and no AP.")
    elif receipt.detections == 0:
        found.append(
            f"{reference.name} found nothing on the images compared: the tensors between the stages were compared, "
            "detections were not. Train longer, lower --conf, or give --data with images that show its objects."
        )
    if isinstance(subject, EngineSide):
        found.append("TensorRT fuses its layers: there are no tensors between the stages, the outputs were compared.")
    elif not subject.has_stages:
        found.append(
            "The file has no named tensors between its stages (edited by another tool?): "
            "only its outputs were compared."
        )
    elif isinstance(subject, OnnxSide) and receipt.spec.post.kind != "raw" and not any(r.post for r in receipt.runs):
        found.append(
            "The file does not name all tensors that its post-processing reads (exported by an earlier version?): "
            "post-processing was seen in the detections alone. Export it again to have it proven by itself."
        )
    return found

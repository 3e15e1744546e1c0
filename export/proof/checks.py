"""What decides a receipt's verdict: each figure against its limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

import onnx_ir as ir

from aweigh.export.engine.report import EngineReport, require_precision
from aweigh.export.precision.count import count_precision
from aweigh.export.precision.table import graph_precision
from aweigh.export.proof.rounding import Rounding
from aweigh.export.proof.stages import StageErrors
from aweigh.runtime.agreement.match import Match
from aweigh.runtime.agreement.tolerances import TOLERANCES, Tolerances
from aweigh.runtime.errors import CheckFailed
from aweigh.runtime.files.engine import EngineFile
from aweigh.runtime.spec import ModelSpec


class Part(Enum):
    """Which part of the file a check is about."""

    CONTRACT = "what the file says of itself"
    TENSORS = "tensors between the stages"
    OUTPUTS = "what post-processing makes of them"
    THRESHOLDS = "what a user must change"


@dataclass(frozen=True)
class Check:
    """One figure that was held against a limit; both as text."""

    name: str
    passed: bool
    measured: str
    limit: str
    part: Part

    def to_dict(self) -> dict[str, Any]:
        """The form that the receipt has."""
        return {"name": self.name, "passed": self.passed, "measured": self.measured, "limit": self.limit}


def check_contract(spec: ModelSpec, reference: ModelSpec) -> Check:
    """What the file says of itself must be what the other side says, except what an export may choose.

    A file that takes a single size is compared at that size with one that takes more.
    """
    expected = reference.input
    if expected.dynamic_size or spec.input.dynamic_size:
        expected = replace(expected, size_hw=spec.input.size_hw, dynamic_size=spec.input.dynamic_size)
    differences = [
        name
        for name, ours, theirs in (
            ("method", spec.method, reference.method),
            ("architecture", spec.architecture, reference.architecture),
            ("categories", spec.categories, reference.categories),
            ("input", spec.input, expected),
            ("post-processing", replace(spec.post, nms_form=None), replace(reference.post, nms_form=None)),
        )
        if ours != theirs
    ]
    measured = f"differs in {', '.join(differences)}" if differences else "same"
    return Check("contract", not differences, measured, "same", Part.CONTRACT)


def check_runs(
    runs: Sequence[StageErrors],
    tolerances: Tolerances,
    strict: bool = False,
    post_tolerances: Tolerances = TOLERANCES["fp32"],
) -> list[Check]:
    """Values finite, stages within tolerance, and of each run its post-processing, its detections and scores.

    With ``strict`` no score may change by more than the tolerance, else one of a hundred may. ``post_tolerances`` are
    for what post-processing makes of the same points, which does not depend on the network's precision.
    """
    if not runs:
        return []
    stages = [stage for run in runs for stage in run.stages]
    checks = []
    if stages:
        worst = max(stages, key=lambda s: s.max_rel)
        infinite = next((s.stage for s in stages if not s.finite), None)
        values = f"NaN or infinity, first in {infinite}" if infinite else "all"
        checks.append(Check("finite", infinite is None, values, "all values", Part.TENSORS))
        measured = f"{worst.max_rel:.1e} of its largest value ({worst.stage})"
        first = failing_stage(runs, tolerances)
        if first is not None and first != worst.stage:
            measured = f"first beyond the limit: {first}; worst: {measured}"
        limit = f"{tolerances.stage:.3g} in every tensor"
        if tolerances.stage != tolerances.input:
            limit += f", {tolerances.input:.3g} in the input"
        limit += _wider(runs, tolerances)
        checks.append(Check("stages", first is None, measured, limit, Part.TENSORS))
    for run in runs:
        where = f"batch {run.batch}, {run.size_hw[1]}x{run.size_hw[0]}"
        if run.post is not None:
            boxes, scores = _match_checks(run.post, post_tolerances, strict, "", "")
            passed, measured = boxes.passed and scores.passed, f"{boxes.measured}; scores: {scores.measured}"
            limit = f"{boxes.limit}; scores: {scores.limit}"
            checks.append(Check(f"post-processing, {where}", passed, measured, limit, Part.OUTPUTS))
        if run.match is not None:
            names = (f"detections, {where}", f"scores, {where}")
            checks += _match_checks(run.match, tolerances, strict, *names, run.rounding)
    return checks


def _wider(runs: Sequence[StageErrors], tolerances: Tolerances) -> str:
    """The limits that are wider than their precision's, for rounding alone moves the trained model so far."""
    limits: dict[str, float] = {}
    for run in runs:
        for stage in run.stages:
            limit = run.limit_of(stage.stage, tolerances)
            if limit > tolerances.of_stage(stage.stage):
                limits[stage.stage] = max(limit, limits.get(stage.stage, 0.0))
    if not limits:
        return ""
    return "; twice what rounding alone does: " + ", ".join(f"{limit:.2g} in {name}" for name, limit in limits.items())


def _match_checks(
    match: Match, tolerances: Tolerances, strict: bool, boxes: str, scores: str, rounding: Rounding | None = None
) -> tuple[Check, Check]:
    """Of the detections that differ, and of their scores, under these names."""
    twin = rounding.match if rounding else None
    measured = (
        f"{match.differing} of {match.base}: {match.lost} lost, {match.new} new, {match.relabelled} relabelled, "
        f"{match.moved} moved; {match.borderline} borderline"
    )
    plain = match.allowed(tolerances.share)
    allowed = rounding.allowed(twin.differing, plain, match.base) if rounding and twin else plain
    limit = _at_most(allowed, plain)
    first = Check(boxes, match.differing <= allowed, measured, limit, Part.OUTPUTS)
    plain = 0 if strict else match.allowed_rescored
    few = rounding.allowed(twin.rescored, plain, match.base) if rounding and twin else plain
    measured = f"{match.rescored} beyond {tolerances.score:.3g}; largest {match.max_score_error:.1e}"
    return first, Check(scores, match.rescored <= few, measured, _at_most(few, plain), Part.OUTPUTS)


def _at_most(allowed: int, plain: int) -> str:
    """A limit in words; ``plain`` is that of the precision."""
    return f"at most {allowed}" + (", twice what rounding alone does and two" if allowed > plain else "")


def failing_stage(runs: Sequence[StageErrors], tolerances: Tolerances) -> str | None:
    """The first tensor, in the order of the network, that is not finite or beyond its tolerance in any run."""
    for stages in zip(*(run.stages for run in runs), strict=True):
        of_runs = zip(stages, runs, strict=True)
        if any(not stage.finite or stage.max_rel > run.limit_of(stage.stage, tolerances) for stage, run in of_runs):
            return str(stages[0].stage)
    return None


def failed_at(checks: Sequence[Check], runs: Sequence[StageErrors], tolerances: Tolerances) -> str | None:
    """Where to look first: a stage, ``post-processing`` where all tensors before it agree, or the failed check."""
    failed = [check for check in checks if not check.passed]
    if not failed:
        return None
    stage = failing_stage(runs, tolerances)
    if stage is not None:
        return stage
    compared = any(run.stages for run in runs)
    behind = all(check.part is Part.OUTPUTS for check in failed)
    return "post-processing" if compared and behind else failed[0].name


def check_precision(typed: ir.Model, spec: ModelSpec) -> list[Check]:
    """Whether the graph, one of ``with_types``, has the precision that the file's spec names; nothing to check for the
    trained model's own.
    """
    precision = graph_precision(spec.precision)
    if not precision.lowers:
        return []
    count = count_precision(typed, spec.precision, typed=True)
    nodes = precision.evidence.format(**asdict(count))
    measured = f"{count.lowered} of {count.convolutions} convolutions in {spec.precision}, {nodes}"
    return [Check("precision", count.lowered > 0, measured, "at least 1", Part.CONTRACT)]


def check_engine(engine: EngineFile) -> list[Check]:
    """What the engine computes in, against what was asked for.

    As TensorRT's inspector said when the engine was built; of a build without a GPU, which has no inspector, as the
    audit of the network says.
    """
    if engine.audit is not None and not engine.precision:
        audit, asked = engine.audit, engine.spec.precision
        limit = f"convolutions in {asked}, none coarser"
        return [Check("precision", audit.coarsest == asked, audit.summary(), limit, Part.CONTRACT)]
    report = EngineReport(engine.precision, engine.unknown_layers)
    asked = engine.spec.precision
    try:
        require_precision(report, asked)
    except CheckFailed as error:
        return [Check("precision", False, report.describe(), str(error), Part.CONTRACT)]
    return [Check("precision", True, report.describe(), f"the share of {asked} that a build must have", Part.CONTRACT)]

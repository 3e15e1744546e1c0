"""What decides a receipt's verdict: each figure against its limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx

from aweigh.export.engine.report import EngineReport, require_precision
from aweigh.export.precision.precision import count_precision
from aweigh.export.proof.stages import Comparison
from aweigh.runtime.agreement.tolerances import Tolerances
from aweigh.runtime.errors import CheckFailed
from aweigh.runtime.files.engine import EngineFile
from aweigh.runtime.spec import ModelSpec

# Of COCO's twelve figures these decide; those by size hang on a handful of objects, and are shown.
_DECIDING = ("AP", "AP50", "AP75", "AR100")


@dataclass(frozen=True)
class Check:
    """One thing that was held against a limit."""

    name: str
    passed: bool
    measured: str
    limit: str


def check_contract(spec: ModelSpec, reference: ModelSpec) -> Check:
    """What the file says of itself must be what the other side says, but for what an export may choose.

    A file that takes one size alone is compared with one that takes more at that size.
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
    return Check("contract", not differences, f"differs in {', '.join(differences)}" if differences else "same", "same")


def check_runs(runs: Sequence[Comparison], tolerances: Tolerances) -> list[Check]:
    """Values finite, stages within tolerance, and of each run its detections and scores."""
    if not runs:
        return []
    stages = [stage for run in runs for stage in run.stages]
    checks = []
    if stages:
        worst = max(stages, key=lambda s: s.max_rel)
        infinite = next((s.stage for s in stages if not s.finite), None)
        found = f"NaN or infinity, first in {infinite}" if infinite else "all"
        checks.append(Check("finite", infinite is None, found, "all values"))
        measured = f"{worst.max_rel:.1e} of its largest value ({worst.stage})"
        first = failing_stage(runs, tolerances)
        if first is not None and first != worst.stage:
            measured = f"first beyond the limit: {first}; worst: {measured}"
        limit = f"{tolerances.stage:.0e} in every tensor"
        if tolerances.stage != tolerances.input:
            limit += f", {tolerances.input:.0e} in the input"
        checks.append(Check("stages", first is None, measured, limit))
    for run in runs:
        if run.match is None:
            continue
        match, where = run.match, f"batch {run.batch}, {run.size_hw[1]}x{run.size_hw[0]}"
        measured = (
            f"{match.differing} of {match.base}: {match.lost} lost, {match.new} new, {match.relabelled} relabelled, "
            f"{match.moved} moved; {match.borderline} borderline"
        )
        allowed = match.allowed(tolerances.share)
        checks.append(Check(f"detections, {where}", match.differing <= allowed, measured, f"at most {allowed}"))
        checks.append(
            Check(
                f"scores, {where}",
                match.max_score_error <= tolerances.score,
                f"{match.max_score_error:.1e}",
                f"{tolerances.score:.0e}",
            )
        )
    return checks


def failing_stage(runs: Sequence[Comparison], tolerances: Tolerances) -> str | None:
    """The first tensor, in the order of the network, that is not finite or beyond its tolerance in any run."""
    for stages in zip(*(run.stages for run in runs), strict=True):
        limit = tolerances.input if stages[0].stage == "input" else tolerances.stage
        if any(not stage.finite or stage.max_rel > limit for stage in stages):
            return str(stages[0].stage)
    return None


def failed_at(checks: Sequence[Check], runs: Sequence[Comparison], tolerances: Tolerances) -> str | None:
    """Where to look first: a stage, ``post-processing`` where all tensors before it agree, or the failed check."""
    failed = [check.name for check in checks if not check.passed]
    if not failed:
        return None
    stage = failing_stage(runs, tolerances)
    if stage is not None:
        return stage
    compared = any(run.stages for run in runs)
    behind = all(name.startswith(("detections", "scores", "average", "execution")) for name in failed)
    return "post-processing" if compared and behind else failed[0]


def check_precision(model: onnx.ModelProto, spec: ModelSpec) -> list[Check]:
    """Whether the graph has the precision that the file says it has; nothing to check for fp32."""
    if spec.precision == "fp32":
        return []
    count = count_precision(model, spec.precision)
    nodes = (
        f"{count.quantize_nodes} Q and {count.dequantize_nodes} DQ nodes"
        if spec.precision == "int8"
        else f"{count.sixteen_bit_nodes} nodes in 16 bits"
    )
    measured = f"{count.lowered} of {count.convolutions} convolutions in {spec.precision}, {nodes}"
    return [Check("precision", count.lowered > 0, measured, "at least 1")]


def check_engine(engine: EngineFile) -> list[Check]:
    """What TensorRT's inspector said of the precision when the engine was built, against what was asked for."""
    report = EngineReport(engine.precision, engine.unknown_layers)
    asked = engine.spec.precision
    try:
        require_precision(report, asked)
    except CheckFailed as error:
        return [Check("precision", False, report.told(), str(error))]
    return [Check("precision", True, report.told(), f"the share of {asked} that a build must have")]


def check_thresholds(shifts: Mapping[str, Mapping[str, Any]], tolerances: Tolerances) -> list[Check]:
    """The largest shift of a class's score threshold; see ``thresholds.threshold_shifts``."""
    worst = max(shifts.values(), key=lambda shift: abs(shift["shift"]), default=None)
    if worst is None:
        return []
    measured = f"{worst['shift']:+.4f} ({worst['name']}: {worst['trained']:.3f} to {worst['exported']:.3f})"
    return [Check("score threshold", abs(worst["shift"]) <= tolerances.score, measured, f"{tolerances.score}")]


def check_ap(ap: dict[str, Any], tolerances: Tolerances) -> Check:
    """The largest difference of the figures that decide.

    Of each figure the difference at COCO's IoU thresholds and those beside them (``difference_beside``, where they were
    taken) the smallest counts: what only one of them shows hangs on boxes that lie on the threshold.
    """
    taken = [ap["difference"], *ap["difference_beside"].values()]
    known = {
        name: min((difference[name] for difference in taken), key=abs)
        for name in _DECIDING
        if all(difference[name] is not None for difference in taken)
    }
    worst = max(known, key=lambda name: abs(known[name]), default="AP")
    error = known.get(worst, 0.0)
    measured = f"{error:+.4f} ({worst})" if known else "no objects to find"
    if ap["difference_beside"]:
        plain = {name: ap["difference"][name] for name in known}
        largest = max(plain, key=lambda name: abs(plain[name]))
        beside = " and ".join(ap["difference_beside"])
        measured += f" with IoU thresholds {beside} beside COCO's, at which it is {plain[largest]:+.4f} ({largest})"
    return Check("average precision", abs(error) <= tolerances.ap, measured, f"{tolerances.ap}")

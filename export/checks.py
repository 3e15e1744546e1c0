"""What decides a receipt's verdict: each figure against its limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aweigh.export.compare import Comparison, Tolerances
from aweigh.runtime.spec import ModelSpec
from aweigh.train.checkpoint import Checkpoint

# Of COCO's twelve figures these decide; those by size hang on a handful of objects, and are shown.
_DECIDING = ("AP", "AP50", "AP75", "AR100")


@dataclass(frozen=True)
class Check:
    """One thing that was held against a limit."""

    name: str
    passed: bool
    measured: str
    limit: str


def check_contract(spec: ModelSpec, checkpoint: Checkpoint) -> Check:
    """What the file says of itself must be what the checkpoint says, but for what an export may choose."""
    trained = checkpoint.spec
    as_exported = replace(trained.input, size_hw=spec.input.size_hw, dynamic_size=spec.input.dynamic_size)
    differences = [
        name
        for name, ours, theirs in (
            ("method", trained.method, spec.method),
            ("architecture", trained.architecture, spec.architecture),
            ("categories", trained.categories, spec.categories),
            ("input", as_exported, spec.input),
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
        finite = all(s.finite for s in stages)
        checks.append(Check("finite", finite, "all" if finite else "NaN or infinity found", "all values"))
        measured = f"{worst.max_rel:.1e} of its largest value ({worst.stage})"
        checks.append(
            Check("stages", worst.max_rel <= tolerances.stage, measured, f"{tolerances.stage:.0e} in every tensor")
        )
    for run in runs:
        if run.match is None:
            continue
        match, where = run.match, f"batch {run.batch}, {run.size_hw[1]}x{run.size_hw[0]}"
        base = max(match.compared, match.compared - match.lost + match.new, 1)
        measured = (
            f"{match.differing} of {base}: {match.lost} lost, {match.new} new, {match.relabelled} relabelled, "
            f"{match.moved} moved; {match.borderline} borderline"
        )
        allowed = math.floor(tolerances.share * base)
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


def check_ap(ap: dict[str, Any], tolerances: Tolerances) -> Check:
    """The largest difference of the figures that decide."""
    known = {name: ap["difference"][name] for name in _DECIDING if ap["difference"][name] is not None}
    worst = max(known, key=lambda name: abs(known[name]), default="AP")
    error = known.get(worst, 0.0)
    measured = f"{error:+.4f} ({worst})" if known else "no objects to find"
    return Check("average precision", abs(error) <= tolerances.ap, measured, f"{tolerances.ap}")

"""Trained models against their exported files: tensors and detections, batch by batch, and AP.

    python benchmarks/parity.py --models BEST.pt,... --data DATA --split val --batches 1,3,8 --out FILE.json

Each checkpoint is exported in FP32 with its own post-processing, with NMS where that is not its own, and as ``raw``;
each file is then verified as ``aweigh verify`` does it: --pictures of the split in every batch, AP on all of them,
within --tol-moved-px, --tol-score and --tol-ap, and not a single detection may differ.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aweigh.export import ExportOptions, VerifyOptions, export, verify
from aweigh.export.jobs.results import VerifyResult
from aweigh.export.proof.prove import Scope
from aweigh.runtime.cli.numbers import parse_counts
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.process.console import say
from support.reports.grid import Column
from support.reports.layout import Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report
from support.reports.script import make_parser, public_command, publish, run

_DIFFERING = ("lost", "new", "relabelled", "moved")


LAYOUT = Layout(
    tables(
        {
            "trained model and exported file": (
                Column("method", "method"),
                Column("post-processing", "post"),
                Column("verdict", "verdict"),
                Column("detections", "detections"),
                Column("differing", "differing"),
                Column("farthest move px", "max_moved_px", ".1e"),
                Column("score error", "max_score_error", ".1e"),
                Column("largest error of a tensor", "largest_stage_error.relative", ".1e"),
                Column("AP trained", "ap.trained", ".4f"),
                Column("AP difference", "ap.difference", "+.4f"),
            ),
        }
    ),
    plots=(Bars("AP of the file less AP of the model", ("method", "post"), "ap.difference", "AP"),),
)


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--models", required=True, metavar="FILE,FILE", help="checkpoints")
    parser.add_argument("--data", required=True, metavar="DATA")
    parser.add_argument("--split", default="val")
    parser.add_argument("--pictures", type=int, default=24, metavar="N", help="evenly spaced; AP is that of all")
    parser.add_argument("--batches", default="1,3,8", metavar="N,N")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--tol-moved-px", type=float, default=0.01, metavar="X")
    parser.add_argument("--tol-score", type=float, default=1e-4, metavar="X")
    parser.add_argument("--tol-ap", type=float, default=0.0005, metavar="X")
    options = parser.parse_args(arguments)
    batches = tuple(parse_counts(options.batches, "--batches"))
    scope = Scope(options.pictures, batches)
    tolerances = {"moved_px": options.tol_moved_px, "score": options.tol_score, "ap": options.tol_ap, "share": 0.0}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for model in map(Path, options.models.split(",")):
            own = load_checkpoint(model).spec.post.kind
            for post in dict.fromkeys((own, "nms", "raw")):
                file = Path(folder) / f"{len(rows)}-{post}.onnx"
                export(model, file, ExportOptions(batch=(1, max(batches)), post=post, golden=0, verify=False))
                chosen = VerifyOptions(
                    data=options.data,
                    split=options.split,
                    threads=options.threads,
                    tolerances=tolerances,
                    scope=scope,
                )
                result = verify(file, model, chosen)
                rows.append(row_of(result))
                say(f"{rows[-1]['method']} {post}: {result.verdict} {'; '.join(result.failed)}")
    what = "trained model and exported file, FP32: tensors and detections in every batch, AP of the split"
    about = {"split": options.split, "pictures": scope.images, "batches": list(batches), "tolerances": tolerances}
    publish(Report.here("parity", what, rows, public_command("parity.py", arguments), about), LAYOUT, options)
    return 0 if all(row["verdict"] == "passed" for row in rows) else 1


def row_of(result: VerifyResult) -> dict[str, Any]:
    """The figures of one receipt that a reader asks for first."""
    assert result.receipt is not None
    receipt = result.receipt.to_dict()
    stages = [stage for run in receipt["runs"] for stage in run["stages"]]
    worst = max(stages, key=lambda stage: stage["max_rel"])
    ap = receipt["ap"]
    return {
        "method": receipt["spec"]["method"],
        "post": receipt["spec"]["post"]["kind"],
        "checkpoint_sha256": receipt["against_sha256"],
        "verdict": receipt["verdict"],
        "failed": list(result.failed),
        "pictures": receipt["runs"][0]["pictures"],
        "largest_stage_error": {"stage": worst["stage"], "relative": worst["max_rel"]},
        "detections": receipt["detections_compared"],
        "differing": sum(run["match"][name] for run in receipt["runs"] if run["match"] for name in _DIFFERING),
        "max_moved_px": max((run["match"]["max_moved_px"] for run in receipt["runs"] if run["match"]), default=None),
        "max_score_error": max(
            (run["match"]["max_score_error"] for run in receipt["runs"] if run["match"]), default=None
        ),
        "ap": ap and {side: ap[side]["AP"] for side in ("trained", "exported", "difference")},
    }


if __name__ == "__main__":
    sys.exit(run("parity.py", main))

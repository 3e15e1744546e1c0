"""Trained models against their exported files on a whole split: tensors, detections and AP, batch by batch.

    python benchmarks/parity.py --models BEST.pt,... --data DATA --split val --batches 1,3,8 --out FILE

Each checkpoint is exported in FP32 with its own post-processing, with NMS where that is not its own, and as ``raw``;
each file is then verified on every picture of the split in every batch, as ``aweigh verify`` does it, within the limits
of --tol-moved-px, --tol-score and --tol-ap, and not a single detection may differ.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from aweigh.export.job import ExportOptions, run_export, run_verify
from aweigh.export.proof import Scope
from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import AweighError
from aweigh.runtime.machine import describe
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.data.formats import load_split
from aweigh.train.progress import say
from aweigh.train.run_dir import commit, versions


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, help="checkpoints, with commas between")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--batches", default="1,3,8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tol-moved-px", type=float, default=0.01)
    parser.add_argument("--tol-score", type=float, default=1e-4)
    parser.add_argument("--tol-ap", type=float, default=0.0005)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    arguments = parser.parse_args()
    batches = tuple(int(part) for part in arguments.batches.split(","))
    pictures = len(load_split(arguments.data, arguments.split).records)
    tolerances = {
        "moved_px": arguments.tol_moved_px,
        "score": arguments.tol_score,
        "ap": arguments.tol_ap,
        "share": 0.0,
    }
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for model in map(Path, arguments.models.split(",")):
            own = load_checkpoint(model).spec.post.kind
            for post in dict.fromkeys((own, "nms", "raw")):
                file = Path(folder) / f"{model.parent.parent.name}-{post}.onnx"
                options = ExportOptions(batch=(1, max(batches)), post=post, data=arguments.data, golden=0, verify=False)
                run_export(model, file, options)
                result = run_verify(
                    file,
                    model,
                    arguments.data,
                    arguments.split,
                    threads=arguments.threads,
                    tolerances=tolerances,
                    scope=Scope(pictures, batches),
                )
                rows.append({"model": model.parent.parent.name, "own": own, **row_of(result)})
                say(f"{file.name}: {result['verdict']} {'; '.join(result['failed'])}")
    report = {
        "what": "trained model and exported file, FP32, every picture of the split in every batch",
        "date": date.today().isoformat(),
        "command": " ".join(["python", "benchmarks/parity.py", *map(_without_folders, sys.argv[1:])]),
        "machine": describe(),
        "versions": versions(),
        "commit": commit(),
        "rows": rows,
    }
    with atomic_write(arguments.out) as temporary:
        temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return 0 if all(row["verdict"] == "passed" for row in rows) else 1


def row_of(result: dict[str, Any]) -> dict[str, Any]:
    """The figures of one receipt that a reader asks for first."""
    receipt = json.loads(Path(result["receipt"]).read_text())
    stages = [stage for run in receipt["runs"] for stage in run["stages"]]
    worst = max(stages, key=lambda stage: stage["max_rel"])
    ap = receipt["ap"]
    return {
        "method": receipt["spec"]["method"],
        "post": receipt["spec"]["post"]["kind"],
        "checkpoint_sha256": receipt["against_sha256"],
        "verdict": receipt["verdict"],
        "failed": result["failed"],
        "pictures": receipt["runs"][0]["pictures"],
        "largest_stage_error": {"stage": worst["stage"], "relative": worst["max_rel"]},
        "matches": {str(run["batch"]): run["match"] for run in receipt["runs"]},
        "ap": ap and {side: ap[side]["AP"] for side in ("trained", "exported", "difference")},
    }


def _without_folders(argument: str) -> str:
    return ",".join("/".join(Path(part).parts[-3:]) for part in argument.split(",")) if "/" in argument else argument


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AweighError as error:
        sys.exit(f"parity: {error}")

"""What lower precision costs in AP, from receipts.

    aweigh export --model BEST.pt --data DATA --precision int8 --out NAME.onnx          # and fp16
    python benchmarks/precision.py --receipts NAME.receipt.json,... --out FILE.json

Receipts hold trained model and exported file on the same images. What lower precision brings in speed is the subject of
benchmarks/compare.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.reports.grid import Column
from support.reports.layout import Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report
from support.reports.script import make_parser, public_command, publish, run

LAYOUT = Layout(
    tables(
        {
            "AP of the trained model and of the exported file": (
                Column("method", "method"),
                Column("precision", "precision"),
                Column("split", "split"),
                Column("pictures", "images"),
                Column("AP trained", "trained.AP", ".4f"),
                Column("AP exported", "exported.AP", ".4f"),
                Column("difference", "ap_difference", "+.4f"),
                Column("receipt", "verdict"),
            )
        }
    ),
    plots=(Bars("AP of the file less AP of the model", ("method", "precision"), "ap_difference", "AP"),),
)


def accuracy(receipt: Path) -> dict[str, Any]:
    """The figures of one receipt. Raises KeyError where it has no AP: exported without --data."""
    content = json.loads(receipt.read_text())
    spec, ap = content["spec"], content["ap"]
    worst = max((s["max_rel"], s["stage"]) for run in content["runs"] for s in run["stages"])
    return {
        "method": spec["method"],
        "architecture": spec["architecture"],
        "input_hw": spec["input"]["size_hw"],
        "precision": spec["precision"],
        "verdict": content["verdict"],
        "split": ap["split"],
        "images": ap["images"],
        "trained": {name: ap["trained"][name] for name in ("AP", "AP50", "AP75", "AR100")},
        "exported": {name: ap["exported"][name] for name in ("AP", "AP50", "AP75", "AR100")},
        "ap_difference": ap["difference"]["AP"],
        "largest_stage_error": {"stage": worst[1], "relative": worst[0]},
        "matches": [run["match"] for run in content["runs"]],
        "bytes": content["bytes"],
        "checkpoint_sha256": content["parents"]["checkpoint_sha256"],
    }


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--receipts", required=True, metavar="FILE,FILE")
    options = parser.parse_args(arguments)
    rows = [accuracy(Path(name)) for name in options.receipts.split(",")]
    what = "trained model and exported file, from the receipts"
    publish(Report.here("precision", what, rows, public_command("precision.py", arguments)), LAYOUT, options)
    return 0


if __name__ == "__main__":
    sys.exit(run("precision.py", main))

"""Engines of TensorRT for RTX, built on this machine without a GPU: what each costs, and what it computes in.

    python benchmarks/engines.py [--only nano] [--resume FILE.json] --out benchmarks/results/engines.json

Each row goes the whole way of ``aweigh export --format engine --flavour rtx`` in a process of its own: an untrained
checkpoint with six classes is exported, parsed, audited (every convolution computes in the type that the ONNX file
says) and built for Ampere, Ada and Blackwell. Nothing runs on a GPU, so no row says how fast an engine is. Seconds are
CPU seconds, of all threads, for parsing and building; a busy machine does not change them much. INT8 is calibrated on
generated images. Rows that ``--resume`` names are taken over.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aweigh.runtime.errors import CannotRun
from aweigh.runtime.precision import PRECISIONS
from aweigh.runtime.spec import InputSpec, ModelSpec
from aweigh.train.checkpoint import Checkpoint, save_checkpoint
from aweigh.train.data.shapes import SHAPES, generate_shapes
from support.reports.grid import Column
from support.reports.layout import Layout, tables
from support.reports.report import Report, Row, read
from support.reports.script import make_parser, public_command, publish, run
from support.untrained import crowded_detector

METHODS = ("fcos", "paa", "autoassign", "dw", "o2f", "ala", "ala-one-to-one")
DEEP = ("r18", "r50", "r50-dcn", "swin-t", "x101-64x4d")
NANO_HW, DEEP_HW = (192, 192), (640, 640)
CALIBRATION_IMAGES = 4
ABOUT = {"calibration_images": CALIBRATION_IMAGES, "classes": len(SHAPES)}
WHAT = (
    "engines of TensorRT for RTX built without a GPU; CPU seconds of parsing and building, size of the plan, "
    "convolutions and matrix products by precision"
)


@dataclass(frozen=True)
class Case:
    """One engine: network, method, precision, largest batch, size of the images."""

    architecture: str
    method: str
    precision: str
    size_hw: tuple[int, int]
    dynamic_size: bool = False
    batch: str = "1-8"
    options: dict[str, Any] = field(default_factory=dict)

    def named(self) -> dict[str, Any]:
        """What tells its row from the others."""
        known = asdict(self)
        del known["options"]
        return {**known, "size_hw": list(self.size_hw)}


def cases() -> Iterator[Case]:
    """All, the small ones first."""
    for method in METHODS:
        for precision in PRECISIONS[::-1]:
            yield Case("nano", method, precision, NANO_HW, options={"one_to_one": True} if "-" in method else {})
    for architecture in DEEP:
        for precision in ("fp16", "int8"):
            yield Case(architecture, "dw", precision, DEEP_HW)
    yield Case("nano", "fcos", "fp16", NANO_HW, dynamic_size=True)


def _layers(name: str) -> Any:
    def shown(row: Row) -> str:
        return ", ".join(f"{count[name]} {count['precision']}" for count in row["layers"] if count[name])

    return shown


LAYOUT = Layout(
    tables(
        {
            "engines of TensorRT for RTX, built without a GPU": (
                Column("network", "architecture"),
                Column("method", "method"),
                Column("asked for", "precision"),
                Column("size", lambda row: "x".join(map(str, row["size_hw"])) + (", any" * row["dynamic_size"])),
                Column("CPU s", "cpu_seconds", ".1f"),
                Column("plan MB", "plan_mb", ".1f"),
                Column("ONNX MB", "onnx_mb", ".1f"),
                Column("convolutions", _layers("convolutions")),
                Column("matrix products", _layers("matrix_products")),
            )
        }
    ),
    plots=(),
)


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--only", help="networks, with commas between; default: all")
    parser.add_argument("--resume", type=Path, metavar="FILE.json", help="rows that are there already")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",") if options.only else ["nano", *DEEP]
    command = public_command("engines.py", arguments)
    rows = read(options.resume, "engines").rows if options.resume and options.resume.is_file() else []
    for case in cases():
        named = case.named()
        if case.architecture not in wanted or any(named.items() <= row.items() for row in rows):
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows.append({**named, **measure(case, Path(folder))})
        print(f"{len(rows)}: {rows[-1]}", file=sys.stderr, flush=True)
        if options.out is not None:  # after every row, so that it can be stopped
            Report.here("engines", WHAT, rows, command, ABOUT).write(options.out)
    publish(Report.here("engines", WHAT, rows, command, ABOUT), LAYOUT, options)
    return 0


def measure(case: Case, folder: Path) -> Row:
    """Build one engine. Raises CannotRun where the command fails."""
    method, model = case.method.partition("-")[0], folder / "model.pt"
    input_spec = InputSpec(case.size_hw)
    detector = crowded_detector(case.architecture, method, len(SHAPES), input_spec, options=case.options)
    spec = ModelSpec(method, case.architecture, SHAPES, input_spec, detector.method.post())
    save_checkpoint(Checkpoint(spec, {}, case.options, detector.state_dict(), {}, {}), model)
    command = [sys.executable, "-m", "aweigh.runtime.cli", "export", "--model", str(model), "--json"]
    command += ["--format", "engine", "--flavour", "rtx", "--precision", case.precision, "--batch", case.batch]
    command += ["--golden", "0", "--no-verify"]
    if case.precision == "int8":
        data = generate_shapes(folder / "shapes", train=CALIBRATION_IMAGES, val=1, size_hw=NANO_HW)
        command += ["--data", str(data), "--calib", str(CALIBRATION_IMAGES)]
    if case.dynamic_size:
        command += ["--dynamic-size"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun(f"{case}: exit code {done.returncode}: {done.stderr.strip().splitlines()[-1]}")
    result = json.loads(done.stdout)
    audit = result["audit"]
    return {
        "library": result["built"]["tensorrt"],
        "targets": result["targets"],
        "cpu_seconds": audit["cpu_seconds"],
        "plan_mb": result["bytes"] / 1e6,
        "onnx_mb": model.with_suffix(".onnx").stat().st_size / 1e6,
        "layers": audit["layers"],
        "warnings": audit["warnings"],
    }


if __name__ == "__main__":
    sys.exit(run("engines.py", main))

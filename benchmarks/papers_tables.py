"""Speed and memory by backbone (ALA's Tables XIII, XVII), forward and NMS time (O2F's Table 5): measured and published.

    python benchmarks/papers_tables.py --imgsz 800x1344 --seconds 20 --out FILE.json     # the CPU, and a GPU if there
    python benchmarks/papers_tables.py --models DIR --prepare      # export alone, where that is to go before the timing

Random weights of the papers' sizes (pyramid and head of 256 channels, 4 convolutions, for every backbone), 80 classes.
On each device: the exported file by ``aweigh bench`` (forward: the graph up to the last convolution; NMS: what is
behind; on a GPU the two cannot be separated), and eager PyTorch, on a GPU by CUDA events and by the host's clock. The
papers' numbers are copied, were taken on other hardware with other software, and are marked so: they are there for the
ratio of one row to another.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aweigh.export import ExportOptions, export
from aweigh.runtime.bench.run import bench_models
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.size import Size
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.dense.postprocess import PostProcess
from aweigh.train.process.device import resolve_device
from support.artifact import Artifact, add_settings, parse_artifact
from support.papers import HARDWARE, ROWS, PaperRow
from support.reports.grid import Column
from support.reports.layout import Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run
from support.untrained import write_checkpoint

# The papers' head, for every backbone: r18 and r34 have a lighter one by default.
_NETWORK: dict[str, Any] = {"channels": 256, "convs": 4}
_EAGER_RUNS = 10


def _theirs(name: str, form: str) -> Column:
    return Column(f"theirs: {name}", f"theirs.{name}", form)


LAYOUT = Layout(
    tables(
        {
            "ours here, theirs on their hardware": (
                Column("row", "name"),
                Column("device", lambda row: row.get("device") or row["not_built"]),
                Column("forward ms", "forward_ms", ".1f"),
                Column("NMS ms", "nms_ms", ".2f"),
                Column("FPS", "fps", ".1f"),
                Column("GB", "memory_gb", ".2f"),
                Column("GB of the GPU", "device_gb", ".2f"),
                Column("eager forward ms", "eager.forward_ms", ".1f"),
                Column("by events", "eager.forward_events_ms", ".1f"),
                Column("eager NMS ms", "eager.nms_ms", ".2f"),
                Column("by events ", "eager.nms_events_ms", ".2f"),
                _theirs("forward_ms", ".1f"),
                _theirs("nms_ms", ".1f"),
                _theirs("fps", ".1f"),
                _theirs("memory_gb", ".1f"),
                Column("not run", "not_run"),
            )
        }
    ),
    plots=(
        Bars("ours: pictures per second of the exported graph", ("name", "device"), "fps", "FPS"),
        Bars("theirs, on their hardware", ("name",), "theirs.fps", "FPS"),
    ),
)


def measure(row: PaperRow, options: argparse.Namespace, devices: Sequence[str], folder: Path) -> list[Row]:
    """One row per device; one without figures where the network is not built."""
    base: Row = {"table": row.table, "name": row.name, "theirs": row.theirs or None}
    if row.architecture is None:
        return [{**base, "not_built": row.not_built}]
    size_hw = Size.parse(options.imgsz)
    artifact = Artifact(exported(row, options, folder), parse_artifact("", options).settings)
    checkpoint = artifact.path.with_suffix(".pt")
    rows: list[Row] = []
    if options.prepare:
        return rows
    for device in devices:
        figures = {**base, "device": device, "architecture": row.architecture, "input_hw": list(size_hw)}
        try:
            figures |= exported_figures(Artifact(artifact.path, {**artifact.settings, "device": device}), options)
        except CannotRun as error:  # a GPU that this ONNX Runtime knows nothing of
            figures["not_run"] = str(error)
        figures["eager"] = eager_figures(checkpoint, artifact, device, options)
        rows.append(figures)
    return rows


def exported(row: PaperRow, options: argparse.Namespace, folder: Path) -> Path:
    """The file of a row, its checkpoint beside it; made unless it is there."""
    assert row.architecture is not None
    path = folder / f"{re.sub('[^a-z0-9]+', '-', f'{row.table} {row.name}'.lower())}.onnx"
    if not path.exists():
        network = {**_NETWORK, **options.network}
        checkpoint = path.with_suffix(".pt")
        size_hw = Size.parse(options.imgsz)
        write_checkpoint(
            checkpoint, row.architecture, row.method, size_hw, options.classes, network=network, options=row.options
        )
        post: Any = row.post
        export(checkpoint, path, ExportOptions(batch=(1, 1), post=post, golden=0, verify=False, force=True))
    return path


def exported_figures(artifact: Artifact, options: argparse.Namespace) -> Row:
    [result] = bench_models([artifact.plan(1, iterations=options.iters, seconds=options.seconds)]).results
    network_ms, post_ms = result.stages.network.mean_ms, result.post_ms
    return {
        "forward_ms": None if post_ms is None else network_ms - post_ms,
        "nms_ms": post_ms,
        "network_ms": network_ms,
        "fps": result.fps_network,
        "fps_whole": result.fps,
        "memory_gb": None if result.memory_peak_mb is None else result.memory_peak_mb / 1e3,
        "device_memory": result.device_memory,
        "device_gb": None if result.device_used_mb is None else result.device_used_mb / 1e3,
        "threads": result.threads,
        "providers": list(result.providers),
        "conditions": result.conditions.to_dict(),
        "noise": result.conditions.noise,
    }


@torch.inference_mode()
def eager_figures(checkpoint: Path, artifact: Artifact, device: str, options: argparse.Namespace) -> Row:
    """Median milliseconds of network and post-processing in eager float32; ``*_events_ms`` by the GPU's own clock."""
    loaded = load_checkpoint(checkpoint)
    with Artifact(artifact.path, {"threads": 1}).open() as exported:
        post = PostProcess(exported.spec.post).to(device)
    if options.threads:
        torch.set_num_threads(options.threads)
    network = loaded.detector().to(resolve_device(device))
    images = torch.zeros(1, *loaded.spec.input.size_hw, 3, dtype=torch.uint8, device=device)
    on_gpu = device != "cpu"
    taken: dict[str, list[float]] = {}
    for turn in range(2 + (options.iters or _EAGER_RUNS)):
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(3)] if on_gpu else []  # type: ignore[no-untyped-call]
        clock = [_now(device, marks, 0)]
        dense = network.dense(images)
        clock.append(_now(device, marks, 1))
        post(dense)
        clock.append(_now(device, marks, 2))
        if turn < 2:
            continue
        for i, name in enumerate(("forward", "nms")):
            taken.setdefault(f"{name}_ms", []).append((clock[i + 1] - clock[i]) * 1e3)
            if on_gpu:
                taken.setdefault(f"{name}_events_ms", []).append(marks[i].elapsed_time(marks[i + 1]))
    figures: Row = {name: float(np.median(values)) for name, values in taken.items()}
    figures["fps"] = 1e3 / (figures["forward_ms"] + figures["nms_ms"])
    if on_gpu:
        figures["gpu"] = torch.cuda.get_device_name(device)
        figures["memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
        torch.cuda.reset_peak_memory_stats(device)
    return figures


def _now(device: str, marks: Sequence[Any], index: int) -> float:
    """The host's clock, once all that was asked of the GPU is done; the GPU's own goes into a mark."""
    if marks:
        marks[index].record()
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--tables", default=",".join(HARDWARE), help="default %(default)s")
    parser.add_argument("--architectures", help="only these of ours, r50 say")
    parser.add_argument("--imgsz", default="800x1344", help="default %(default)s")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--seconds", type=float, default=20.0, help="per row (default %(default)s)")
    parser.add_argument("--iters", type=int, help="or batches per row")
    add_settings(parser)
    parser.add_argument(
        "--network", type=json.loads, default={}, help="what differs from the papers' head, JSON; for trials"
    )
    parser.add_argument("--models", type=Path, metavar="DIR", help="where the exported files lie, and stay")
    parser.add_argument("--prepare", action="store_true", help="export what --models lacks, and measure nothing")
    options = parser.parse_args(arguments)
    if options.prepare and options.models is None:
        raise BadInput("--prepare: for files that stay; name their folder, --models DIR")
    tables = options.tables.split(",")
    if unknown := sorted(set(tables) - set(HARDWARE)):
        raise BadInput(f"--tables {', '.join(unknown)}: expected some of {', '.join(HARDWARE)}")
    wanted = options.architectures.split(",") if options.architectures else None
    devices = [options.device] if options.device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows: list[Row] = []
    for row in ROWS:
        if row.table in tables and (wanted is None or row.architecture in wanted):
            with tempfile.TemporaryDirectory() as folder:
                rows += measure(row, options, devices, options.models or Path(folder))
    if options.prepare:
        return 0
    if not rows:
        raise BadInput(f"--architectures {options.architectures}: no row of {', '.join(tables)} has one of them")
    what = "speed and memory as in the papers' tables; theirs on their hardware, ours here"
    about = {"theirs_on": {table: HARDWARE[table] for table in tables}, "network": {**_NETWORK, **options.network}}
    publish(
        Report.here("papers_tables", what, rows, public_command("papers_tables.py", arguments), about), LAYOUT, options
    )
    return 0


if __name__ == "__main__":
    sys.exit(run("papers_tables.py", main))

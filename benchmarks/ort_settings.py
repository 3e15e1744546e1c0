"""What settings of ONNX Runtime cost and bring: latency and resident memory of one file.

    python benchmarks/ort_settings.py --model FILE.onnx [--settings no-arena,spinning] [--rounds 40|0] [--out FILE.json]

Latency: a session as the runtime opens it and one with a setting changed run in turns on one image in one process;
what counts is the ratio, and "as shipped" against itself shows what a ratio is worth here. Memory: each setting in a
process of its own, which makes some calls one after the other, then the same from eight threads at once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.backends.onnxruntime_session import CPU, open_session, session_options
from aweigh.runtime.backends.open import read_spec
from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256
from aweigh.runtime.machine.conditions import between, snapshot
from aweigh.runtime.machine.facts import available_cores, memory_mb
from aweigh.train.process.console import track
from support.paired import in_turns, paired_ratio
from support.reports.grid import Column, interval
from support.reports.layout import QUIET, SETTINGS_COLUMNS, Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run

CALLERS, CALLS = 8, 3
BASE = "as shipped"


LAYOUT = Layout(
    tables(
        {
            "settings of ONNX Runtime, peaks in MB": (
                Column("model", "model"),
                *SETTINGS_COLUMNS,
                Column("setting", "setting"),
                Column("peak", "memory_mb.peak", ".0f"),
                Column("callers at once", "memory_mb.peak_of_callers", ".0f"),
                Column("after them", "memory_mb.after_callers", ".0f"),
                Column("ms", "latency_ms", ".1f"),
                Column("time over that as shipped", interval("ratio")),
                QUIET,
            )
        }
    ),
    plots=(Bars("time over that as shipped", ("precision", "setting"), "ratio", "ratio", 1.0),),
)


@dataclass(frozen=True)
class Setting:
    """What is changed: attributes and config entries of SessionOptions, config entries of each run, IO binding."""

    attributes: Mapping[str, Any] = field(default_factory=dict)
    session: Mapping[str, str] = field(default_factory=dict)
    run: Mapping[str, str] = field(default_factory=dict)
    binding: bool = False


SETTINGS = {
    BASE: Setting(),
    "spinning": Setting(session={"session.intra_op.allow_spinning": "1"}),
    "mem-pattern": Setting({"enable_mem_pattern": True}),
    "no-arena": Setting({"enable_cpu_mem_arena": False}),
    "arena-shrinkage": Setting(run={"memory.enable_memory_arena_shrinkage": "cpu:0"}),
    "extended": Setting({"graph_optimization_level": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED}),
    "basic": Setting({"graph_optimization_level": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC}),
    "no-prepacking": Setting(session={"session.disable_prepacking": "1"}),
    "parallel": Setting({"execution_mode": ort.ExecutionMode.ORT_PARALLEL, "inter_op_num_threads": 2}),
    "one-thread": Setting({"intra_op_num_threads": 1}),
    "twice-the-threads": Setting({"intra_op_num_threads": 2 * available_cores()}),
    "io-binding": Setting(binding=True),
}


def caller(model: Path, setting: Setting, threads: int) -> Callable[[npt.NDArray[np.uint8]], None]:
    """Opens a session; what is returned runs it once and may be called from several threads."""
    options = session_options(ort, threads)
    for name, value in setting.attributes.items():
        setattr(options, name, value)
    for key, value in setting.session.items():
        options.add_session_config_entry(key, value)
    session = open_session(ort, model, model.read_bytes(), options, [(CPU, {})], Device("cpu"))
    run_options = ort.RunOptions()
    for key, value in setting.run.items():
        run_options.add_run_config_entry(key, value)
    names = [port.name for port in session.get_outputs()]

    def bound(images_u8: npt.NDArray[np.uint8]) -> None:
        binding = session.io_binding()
        binding.bind_cpu_input(INPUT_NAME, images_u8)
        for name in names:
            binding.bind_output(name, "cpu")
        session.run_with_iobinding(binding, run_options)
        binding.copy_outputs_to_cpu()

    def plain(images_u8: npt.NDArray[np.uint8]) -> None:
        session.run(names, {INPUT_NAME: images_u8}, run_options)

    return bound if setting.binding else plain


def latency(model: Path, name: str, images_u8: npt.NDArray[np.uint8], threads: int, rounds: int) -> Row:
    """Median latency, and the time over that as shipped, round by round."""
    shipped, changed = (caller(model, SETTINGS[which], threads) for which in (BASE, name))
    before = snapshot()
    times_ms = in_turns({"shipped": lambda: shipped(images_u8), "changed": lambda: changed(images_u8)}, rounds)
    conditions = between(before, snapshot())
    return {
        "latency_ms": statistics.median(times_ms["changed"]),
        "shipped_ms": statistics.median(times_ms["shipped"]),
        "ratio": paired_ratio(times_ms["changed"], times_ms["shipped"]).to_dict(),
        "conditions": conditions.to_dict(),
        "noise": conditions.noise,
    }


def memory(model: Path, name: str, images_u8: npt.NDArray[np.uint8], threads: int) -> dict[str, float | None]:
    """Of this process in MB (10^6 bytes): at the start; peaks of loading, calls in a row, calls at once; after."""
    found = {"start": memory_mb("VmRSS")}
    call = caller(model, SETTINGS[name], threads)
    found["loaded_peak"] = memory_mb("VmHWM")
    for _ in range(CALLS):
        call(images_u8)
    found["peak"] = memory_mb("VmHWM")
    workers = [threading.Thread(target=lambda: [call(images_u8) for _ in range(CALLS)]) for _ in range(CALLERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return found | {"peak_of_callers": memory_mb("VmHWM"), "after_callers": memory_mb("VmRSS")}


def memory_apart(model: Path, name: str, batch: int, threads: int) -> dict[str, float | None]:
    command = [sys.executable, __file__, "--model", str(model), "--batch", str(batch), "--threads", str(threads)]
    done = subprocess.run([*command, "--memory-of", name], capture_output=True, text=True, check=True)
    found: dict[str, float | None] = json.loads(done.stdout)
    return found


def measure(model: Path, name: str, batch: int, threads: int, rounds: int) -> Row:
    """One row of the report."""
    row: Row = {"model": model.stem, "precision": read_spec(model).precision, "batch": batch, "threads": threads}
    row |= {"sha256": file_sha256(model), "setting": name, "rounds": rounds}
    row["memory_mb"] = memory_apart(model, name, batch, threads)
    return row | (latency(model, name, picture(model, batch), threads, rounds) if rounds else {})


def picture(model: Path, batch: int) -> npt.NDArray[np.uint8]:
    """Noise of the file's input size."""
    return np.random.default_rng(0).integers(0, 256, (batch, *read_spec(model).input.size_hw, 3), dtype=np.uint8)


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="FILE.onnx")
    parser.add_argument("--settings", help=f"some of {', '.join(SETTINGS)} (default: all)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--rounds", type=int, default=40, help="of latency; 0 measures memory alone")
    parser.add_argument("--memory-of", choices=SETTINGS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.memory_of:
        images_u8 = picture(options.model, options.batch)
        print(json.dumps(memory(options.model, options.memory_of, images_u8, options.threads)))
        return 0
    names = [BASE, *(options.settings.split(",") if options.settings else [name for name in SETTINGS if name != BASE])]
    unknown = sorted(set(names) - set(SETTINGS))
    if unknown:
        raise BadInput(f"--settings: no {', '.join(unknown)}; there are {', '.join(SETTINGS)}")
    rows = [
        measure(options.model, name, options.batch, options.threads, options.rounds)
        for name in track(names, "settings", len(names))
    ]
    what = "settings of ONNX Runtime: resident memory, and time over that of a session as shipped"
    publish(Report.here("ort_settings", what, rows, public_command("ort_settings.py", arguments)), LAYOUT, options)
    return 0


if __name__ == "__main__":
    sys.exit(run("ort_settings.py", main))

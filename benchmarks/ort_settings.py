"""What settings of ONNX Runtime cost and bring: latency and resident memory of one file.

    python benchmarks/ort_settings.py --model FILE.onnx [--settings no-arena,spinning] [--rounds 40|0] [--out FILE.json]

Latency: a session with the runtime's own settings and one with a setting changed run in turns on one picture in one
process; what counts is the ratio. Memory: each setting in a process of its own, which makes some calls one after the
other, then the same from eight threads at once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.backends.contract import INPUT_NAME
from aweigh.runtime.backends.factory import read_spec
from aweigh.runtime.backends.onnxruntime_session import CPU, open_session, session_options
from aweigh.runtime.inspection import file_sha256
from aweigh.runtime.machine import available_cores, describe, memory_mb

WARM_UP = 3
CALLERS, CALLS = 8, 3
BASE = "as shipped"


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
    session = open_session(ort, model, options, [(CPU, {})], "cpu")
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


def latency(model: Path, name: str, images_u8: npt.NDArray[np.uint8], threads: int, rounds: int) -> dict[str, Any]:
    """Median latency, and the ratio to the shipped settings, round by round; above 1 is slower."""
    pair = [caller(model, SETTINGS[which], threads) for which in (BASE, name)]
    times_ms: list[list[float]] = [[], []]
    for number in range(WARM_UP + rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            pair[which](images_u8)
            times_ms[which].append((time.perf_counter() - start) * 1e3)
    ratios = sorted(b / a for a, b in zip(times_ms[0][WARM_UP:], times_ms[1][WARM_UP:], strict=True))
    return {
        "latency_ms": statistics.median(times_ms[1][WARM_UP:]),
        "shipped_ms": statistics.median(times_ms[0][WARM_UP:]),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
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


def measure(model: Path, names: list[str], batch: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    """One row for each setting; the shipped settings come first, and are compared with themselves."""
    rows = []
    for name in names:
        peaks = memory_apart(model, name, batch, threads)
        row: dict[str, Any] = {"setting": name, "memory_mb": peaks}
        line = (
            f"{name:18} peak {peaks['peak']:4.0f} MB, {CALLERS} callers {peaks['peak_of_callers']:4.0f} MB, "
            f"after them {peaks['after_callers']:4.0f} MB"
        )
        if rounds:
            row |= latency(model, name, picture(model, batch), threads, rounds)
            low, high = row["ratio_quartiles"]
            line += f"; {row['latency_ms']:.1f} ms, {row['ratio']:.3f} of the time as shipped ({low:.3f} to {high:.3f})"
        rows.append(row)
        print(line, flush=True)
    return rows


def picture(model: Path, batch: int) -> npt.NDArray[np.uint8]:
    """Noise of the file's input size."""
    return np.random.default_rng(0).integers(0, 256, (batch, *read_spec(model).input.size_hw, 3), dtype=np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--settings", help=f"some of {', '.join(SETTINGS)} (default: all)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--rounds", type=int, default=40, help="of latency; 0 measures memory alone")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory-of", choices=SETTINGS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        print(json.dumps(memory(given.model, given.memory_of, picture(given.model, given.batch), given.threads)))
        return
    names = [BASE, *(given.settings.split(",") if given.settings else [name for name in SETTINGS if name != BASE])]
    unknown = set(names) - set(SETTINGS)
    if unknown:
        parser.error(f"--settings: no {', '.join(sorted(unknown))}; there are {', '.join(SETTINGS)}")
    rows = measure(given.model, names, given.batch, given.threads, given.rounds)
    if given.out:
        report = {
            "what": f"batch {given.batch}, {given.threads} threads, {given.rounds} rounds in turns",
            "date": date.today().isoformat(),
            "model": {"file": given.model.name, "sha256": file_sha256(given.model)},
            "machine": describe(),
            "results": rows,
        }
        with atomic_write(given.out) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

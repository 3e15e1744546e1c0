"""Latency by stage and memory of exported files: one process per model and batch, one after the other."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from aweigh.runtime.backends.open import backend_of, read_spec
from aweigh.runtime.errors import AweighError, BadInput, CannotRun, CheckFailed
from aweigh.runtime.machine.conditions import noise
from aweigh.runtime.machine.facts import describe

STAGES = ("decode", "preprocess", "network", "unmap", "total")
SYNTHETIC_HW = (720, 1280)


@dataclass(frozen=True)
class BenchPlan:
    """One measurement.

    Attributes:
        device, threads, backend, precision, self_test: as for ``Detector``.
        source: a picture, folder or pattern; None for a generated JPEG of 1280x720 pixels.
        iterations: of the whole way, batch after batch, by each client; None to go by ``seconds``.
        seconds: how long to measure, at least ten iterations by each client.
        concurrency: clients, each a thread, that share one detector and send batch after batch.
    """

    model: str
    batch: int
    device: str = "cpu"
    threads: int | None = None
    backend: str = "auto"
    precision: str | None = None
    self_test: bool = True
    source: str | None = None
    iterations: int | None = None
    seconds: float = 5.0
    concurrency: int = 1


def explain(plan: BenchPlan) -> dict[str, str]:
    """What the figures contain, in words."""
    pictures = plan.source or f"one generated JPEG of {SYNTHETIC_HW[1]}x{SYNTHETIC_HW[0]} pixels, from memory"
    length = f"{plan.iterations} iterations" if plan.iterations else f"{plan.seconds:g} s, at least 10 iterations"
    return {
        "pictures": pictures,
        "length": f"{length} per model and batch, after a warm-up of at least 3 iterations and 0.5 s",
        "cold_start": "once, in a fresh process: libraries imported (from the start of the process), file opened, "
        "first batch from file to boxes; warmup_ms: the batches before the measurement, the first apart",
        "decode": "file to RGB, all pictures of the batch in one thread (files come from the page cache)",
        "preprocess": "resize and padding into the batch, all pictures in one thread of Python",
        "input": "decode and preprocess together: bytes of the file to the batch",
        "network": "the whole graph, from uint8 pictures to the final boxes; post-processing included",
        "post_share": "share of the graph's time spent behind the last convolution of each branch (box decoding, "
        "ranking score, NMS), from ONNX Runtime's profiler in a run of its own (with the back end onnxruntime alone); "
        "post_ms: that share of network's mean",
        "unmap": "boxes back to the original pictures, category ids",
        "total": "the stages above, one after the other; milliseconds per batch",
        "overhead": "total without network",
        "fps": "pictures by the wall clock, from the first client's start to the last one's end; fps_network: if there "
        "were nothing but the graph, one batch after the other",
        "network_device": "the graph by the GPU's own clock (events around copies and kernels), in a run of its own; "
        "network is by the host's clock; absent where the library does not show its stream",
        "device_memory": "of a TensorRT engine, in bytes: weights, scratch memory of the contexts, buffers, "
        "page-locked host memory; device_free and device_total count all processes",
        "device_used_mb": "what the GPU's memory in use grew by from before the file was opened until after the run, "
        "10^6 bytes, by nvidia-smi: weights, activations, CUDA itself, and whatever other processes took meanwhile",
        "memory": "resident memory of a process that runs this model at this batch alone, 10^6 bytes: start, libraries "
        "imported; open, with weights and the library's own data; end, after the run; peak resident memory, with "
        "activations and pictures",
        "conditions": "of the time measured: share of the processors taken by the machine below a virtual one (stolen) "
        "and by other processes, waiting for a container's quota, clocks, thermal events; quiet: none to speak of",
    }


def bench(
    plans: Sequence[BenchPlan], on_result: Callable[[dict[str, Any]], None] = lambda result: None
) -> dict[str, Any]:
    """Measure each plan in a fresh process, in order.

    Returns:
        ``timed`` (what is contained), ``machine``, ``results``: per plan ``stages`` with p50_ms, p90_ms, p99_ms and
        mean_ms per batch, likewise ``input``, ``overhead`` and ``network_device``; ``cold_start``, ``warmup_ms``,
        ``fps``, ``fps_network``, ``post_share``, ``post_ms``, ``memory_start_mb``, ``memory_open_mb``,
        ``memory_end_mb``, ``memory_peak_mb``, ``device_memory``, ``device_used_mb``, ``conditions``, the file's
        ``sha256`` and the settings.

    Raises:
        BadInput: a file that cannot be opened or does not take a batch asked for; before anything is measured.
        CannotRun: the device is not to be had.
    """
    for plan in plans:
        check(plan)
    results = []
    for plan in plans:
        results.append(_measure_apart(plan))
        on_result(results[-1])
    return {"timed": explain(plans[0]), "machine": describe(), "results": results}


def check(plan: BenchPlan) -> None:
    """Raises BadInput where the file is none of ours or refuses the batch."""
    backend_of(plan.model, plan.backend)
    smallest, largest = read_spec(plan.model).batch
    if not smallest <= plan.batch <= largest:
        takes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        raise BadInput(
            f"{plan.model}: --batch {plan.batch}, this file takes {takes}; export it with --batch 1-{plan.batch}"
        )
    if plan.concurrency < 1:
        raise BadInput(f"--concurrency {plan.concurrency}: expected at least 1")
    if plan.iterations is not None and plan.iterations < 1:
        raise BadInput(f"--iters {plan.iterations}: expected at least 1")
    if not plan.seconds > 0:
        raise BadInput(f"--seconds {plan.seconds}: expected more than 0")


def _measure_apart(plan: BenchPlan) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "aweigh.runtime.bench.worker", json.dumps(asdict(plan))]
    command.append(str(time.monotonic()))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        result: dict[str, Any] = json.loads(done.stdout)
        return result
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    for kind in (CheckFailed, BadInput, CannotRun):
        if done.returncode == kind.exit_code and lines[-1].startswith("aweigh: "):
            raise kind(lines[-1].removeprefix("aweigh: "))
    if done.returncode < 0:
        raise CannotRun(f"{plan.model}, batch {plan.batch}: killed by signal {-done.returncode} (out of memory?)")
    raise AweighError(f"{plan.model}, batch {plan.batch}: the measuring process failed:\n{done.stderr}")


def print_bench(report: dict[str, Any], console: Console) -> None:
    """Results as a table, then what the figures contain and where they were taken."""
    table = Table(title="milliseconds per batch: p50 / p90 / p99")
    for name in ("model", "batch", *STAGES, "post in graph", "fps", "peak MB"):
        table.add_column(name, justify="left" if name == "model" else "right", overflow="fold")
    for result in report["results"]:
        cells = ["{p50_ms:.2f}\n{p90_ms:.2f}\n{p99_ms:.2f}".format(**result["stages"][stage]) for stage in STAGES]
        share = result["post_share"]
        table.add_row(
            f"{result['model']}\n{result['height']}x{result['width']} {_precision(result)} {result['post']}\n"
            f"{result['backend']}, {result['device']}, {result['threads']} threads, {result['concurrency']} at once",
            str(result["batch"]),
            *cells,
            "-" if share is None else f"{share:.1%}\n{result['post_ms']:.2f} ms",
            f"{result['fps']:.1f}",
            "-" if result["memory_peak_mb"] is None else f"{result['memory_peak_mb']:.0f}",
        )
    console.print(table)
    for result in report["results"]:
        where, cold = f"{result['model']}, batch {result['batch']}", result["cold_start"]
        console.print(
            f"{where}: cold start {cold['total_ms']:.0f} ms (import {cold['import_ms']:.0f}, open "
            f"{cold['open_ms']:.0f}, first batch {cold['first_ms']:.0f})"
        )
        if result["device_memory"] is not None:
            console.print(f"{where}: {_device_memory(result['device_memory'])}")
        if result["device_used_mb"] is not None:
            console.print(f"{where}: {result['device_used_mb']:.0f} MB of the GPU's memory")
        if result["network_device"] is not None:
            console.print("{}: network by the GPU's clock {p50_ms:.2f} ms".format(where, **result["network_device"]))
        if told := noise(result["conditions"]):
            console.print(f"{where}: {told}; the figures are higher than on a free machine")
    for name, text in report["timed"].items():
        console.print(f"{name}: {text}")
    console.print(
        "machine: " + ", ".join(f"{k} {v}" for k, v in report["machine"].items()), markup=False, highlight=False
    )


def _precision(result: dict[str, Any]) -> str:
    stored, computed = result["precision"], result["precision_computed"]
    return stored if stored == computed else f"{stored} (computed in {computed})"


def _device_memory(memory: dict[str, int | None]) -> str:
    parts = [
        f"{name} {value / 1e6:.1f} MB"
        for name, value in memory.items()
        if value is not None and name not in ("lanes", "device_total")
    ]
    return f"{memory['lanes']} contexts, {', '.join(parts)}"

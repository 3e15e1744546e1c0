"""The process that measures one model at one batch: ``python -m aweigh.runtime.bench.worker PLAN STARTED``.

The plan is JSON; so is the result, on stdout. STARTED is the monotonic clock's time at which the parent started it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from aweigh.runtime.backends.open import backend_of
from aweigh.runtime.bench.plan import STAGES, SYNTHETIC_HW, BenchPlan
from aweigh.runtime.bench.post_share import post_share
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import AweighError
from aweigh.runtime.files.digest import file_sha256
from aweigh.runtime.images.preprocess import placement, prepare
from aweigh.runtime.images.reading import list_images, read_image
from aweigh.runtime.machine.conditions import between, snapshot
from aweigh.runtime.machine.facts import memory_mb

_WARMUP_ITERATIONS, _WARMUP_S = 3, 0.5
_MIN_ITERATIONS = 10
_PROFILE_ITERATIONS = 10
_DEVICE_RUNS = 20


def main() -> int:
    """Measure the plan in the first argument; errors go to stderr as the command line writes them."""
    import_ms = (time.monotonic() - float(sys.argv[2])) * 1e3
    try:
        result = measure(BenchPlan(**json.loads(sys.argv[1])), import_ms)
    except AweighError as error:
        sys.stderr.write(f"aweigh: {' '.join(str(error).split())}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")
    return 0


def measure(plan: BenchPlan, import_ms: float) -> dict[str, Any]:
    """One entry of ``results``, see ``bench.bench``; ``import_ms`` from the start of this process until now."""
    memory = {"memory_start_mb": memory_mb("VmRSS")}
    gpu = snapshot(plan.device).gpu
    begin = time.perf_counter()
    with Detector(
        plan.model,
        plan.device,
        plan.threads,
        backend=plan.backend,
        precision=plan.precision,
        self_test=plan.self_test,
    ) as detector:
        open_ms = (time.perf_counter() - begin) * 1e3
        memory["memory_open_mb"] = memory_mb("VmRSS")
        backend = detector.backend
        threads = backend.threads
        spec = detector.spec
        run = _run(detector, _Pictures(plan, resize=spec.input.resize), plan)
        device_memory = backend.memory()
        memory |= {"memory_end_mb": memory_mb("VmRSS"), "memory_peak_mb": memory_mb("VmHWM")}
        device_ms = [backend.device_ms(run.images_u8) for _ in range(_DEVICE_RUNS)]
    times_ms = np.array(run.rows_ms, np.float64)
    totals_ms = times_ms.sum(axis=1, keepdims=True)
    columns = dict(zip(STAGES, np.hstack([times_ms, totals_ms]).T, strict=True))
    # The others have fused their layers beyond telling them apart; on a GPU, ONNX Runtime's profiler sees launches.
    share = None
    name = backend_of(plan.model, plan.backend)
    if name == "onnxruntime" and plan.device == "cpu":
        with tempfile.TemporaryDirectory() as folder:
            share = post_share(plan.model, plan.device, threads, run.images_u8, _PROFILE_ITERATIONS, Path(folder))
    first_ms = run.warmup_ms[0]
    return {
        "model": plan.model,
        "sha256": file_sha256(plan.model),
        "batch": plan.batch,
        "concurrency": plan.concurrency,
        "height": run.images_u8.shape[1],
        "width": run.images_u8.shape[2],
        "precision": spec.precision,
        "precision_computed": backend.precision,
        "layers": dict(backend.layers),
        "backend": name,
        "post": spec.post.kind if spec.post.nms_form is None else f"{spec.post.kind} ({spec.post.nms_form})",
        "device": plan.device,
        "providers": list(backend.providers),
        "threads": threads,
        "iterations": len(times_ms),
        "cold_start": {
            "import_ms": import_ms,
            "open_ms": open_ms,
            "first_ms": first_ms,
            "total_ms": import_ms + open_ms + first_ms,
        },
        "warmup_ms": run.warmup_ms[1:],
        "stages": {stage: _statistics(values) for stage, values in columns.items()},
        "input": _statistics(columns["decode"] + columns["preprocess"]),
        "overhead": _statistics(columns["total"] - columns["network"]),
        "network_device": None if device_ms[0] is None else _statistics(np.array(device_ms, np.float64)),
        "post_share": share,
        "post_ms": None if share is None else share * float(columns["network"].mean()),
        "fps": plan.batch * len(times_ms) / run.seconds,
        "fps_network": plan.batch * 1e3 / float(columns["network"].mean()),
        **memory,
        "device_memory": device_memory,
        "device_used_mb": _used_mb(gpu, run.conditions["gpu"]),
        "conditions": run.conditions,
    }


class _Pictures:
    """An endless supply of batches of sources, for several threads."""

    def __init__(self, plan: BenchPlan, resize: str) -> None:
        self._sources: list[Path | bytes] = list(list_images(plan.source)) if plan.source else [synthetic_jpeg()]
        self._batch = plan.batch
        # Pictures of other shapes would not share a batch where the network input follows the shape.
        self._alike = resize == "keep-ratio"
        self._next = 0
        self._lock = threading.Lock()

    def batch(self) -> list[Path | bytes]:
        with self._lock:
            return self._choose()

    def _choose(self) -> list[Path | bytes]:
        if self._alike:
            chosen = [self._sources[self._next % len(self._sources)]] * self._batch
            self._next += 1
        else:
            chosen = [self._sources[(self._next + i) % len(self._sources)] for i in range(self._batch)]
            self._next += self._batch
        return chosen


def synthetic_jpeg() -> bytes:
    """Smooth texture with edges: about as many bytes per pixel as a photograph, unlike noise or one colour."""
    rng = np.random.default_rng(0)
    height, width = SYNTHETIC_HW
    coarse = rng.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image = cv2.add(image, rng.integers(0, 12, image.shape, dtype=np.uint8))
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


@dataclass
class _Run:
    """Milliseconds of the batches before the measurement and of those in it ([iterations, stages without the total]),
    the last batch, the seconds that all of it took, and what the machine did meanwhile.
    """

    images_u8: npt.NDArray[np.uint8]
    warmup_ms: list[float] = field(default_factory=list)
    rows_ms: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0
    conditions: dict[str, Any] = field(default_factory=dict)


def _run(detector: Detector, pictures: _Pictures, plan: BenchPlan) -> _Run:
    run = _Run(np.empty(0, np.uint8))
    begin = time.perf_counter()
    while len(run.warmup_ms) < _WARMUP_ITERATIONS or time.perf_counter() - begin < _WARMUP_S:
        row, run.images_u8 = _iteration(detector, pictures.batch())
        run.warmup_ms.append(sum(row))
    before = snapshot(plan.device)
    begin = time.perf_counter()
    if plan.concurrency == 1:
        run.rows_ms = _client(detector, pictures, plan, begin)
    else:
        with ThreadPoolExecutor(plan.concurrency) as clients:
            futures = [clients.submit(_client, detector, pictures, plan, begin) for _ in range(plan.concurrency)]
            run.rows_ms = [row for future in futures for row in future.result()]
    run.seconds = time.perf_counter() - begin
    run.conditions = between(before, snapshot(plan.device))
    return run


def _client(detector: Detector, pictures: _Pictures, plan: BenchPlan, begin: float) -> list[list[float]]:
    """One batch after the other until the plan is fulfilled."""
    rows: list[list[float]] = []
    while True:
        rows.append(_iteration(detector, pictures.batch())[0])
        if plan.iterations is not None:
            if len(rows) >= plan.iterations:
                return rows
        elif len(rows) >= _MIN_ITERATIONS and time.perf_counter() - begin >= plan.seconds:
            return rows


def _iteration(detector: Detector, sources: list[Path | bytes]) -> tuple[list[float], npt.NDArray[np.uint8]]:
    spec = detector.spec.input
    t0 = time.perf_counter()
    images = [read_image(source) for source in sources]
    t1 = time.perf_counter()
    input_hw = placement((images[0].shape[0], images[0].shape[1]), spec).input_hw
    batch_u8 = np.empty((len(images), *input_hw, 3), np.uint8)
    where = [prepare(image, spec, out=batch_u8[i])[1] for i, image in enumerate(images)]
    t2 = time.perf_counter()
    outputs = detector.raw(batch_u8)
    t3 = time.perf_counter()
    for row, place in enumerate(where):
        detector.unmap(outputs, row, place)
    t4 = time.perf_counter()
    return [(t1 - t0) * 1e3, (t2 - t1) * 1e3, (t3 - t2) * 1e3, (t4 - t3) * 1e3], batch_u8


def _used_mb(opening: dict[str, Any] | None, running: list[dict[str, Any]] | None) -> float | None:
    """What the GPU's memory in use has grown by, from before the file was opened until after the last batch."""
    if opening is None or running is None:
        return None
    before, after = opening["memory_used_mib"], running[1]["memory_used_mib"]
    return None if before is None or after is None else (after - before) * 2**20 / 1e6


def _statistics(values_ms: npt.NDArray[np.float64]) -> dict[str, float]:
    p50, p90, p99 = np.percentile(values_ms, [50, 90, 99]).tolist()
    return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "mean_ms": float(values_ms.mean())}


if __name__ == "__main__":
    sys.exit(main())

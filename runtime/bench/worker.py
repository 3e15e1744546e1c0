"""The process that measures one model at one batch: ``python -m aweigh.runtime.bench.worker PLAN STARTED``.

The plan is JSON; so is the result, on stdout. STARTED is the monotonic clock's time at which the parent started it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from aweigh.runtime.atomic import temporary_folder
from aweigh.runtime.backends.open import backend_of
from aweigh.runtime.bench.plan import SYNTHETIC_HW, BenchPlan
from aweigh.runtime.bench.post_share import post_share
from aweigh.runtime.bench.result import BenchResult, ColdStart, Stages, Statistics
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import AweighError
from aweigh.runtime.images.listing import list_images
from aweigh.runtime.images.preprocess import placement, prepare
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.machine.conditions import Conditions, GpuState, between, snapshot
from aweigh.runtime.machine.facts import memory_mb
from aweigh.runtime.values import build

_WARMUP_ITERATIONS, _WARMUP_S = 3, 0.5
_MIN_ITERATIONS = 10
_PROFILE_ITERATIONS = 10
_DEVICE_RUNS = 20


def main() -> int:
    """Measure the plan in the first argument; errors go to stderr as the command line writes them."""
    import_ms = (time.monotonic() - float(sys.argv[2])) * 1e3
    try:
        result = measure(build(BenchPlan, json.loads(sys.argv[1]), "plan"), import_ms)
    except AweighError as error:
        sys.stderr.write(f"aweigh: {' '.join(str(error).split())}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(result.to_dict(), allow_nan=False) + "\n")
    return 0


def measure(plan: BenchPlan, import_ms: float) -> BenchResult:
    """Measure one plan in this process; ``import_ms`` passed from the start of the process until now."""
    memory = {"memory_start_mb": memory_mb("VmRSS")}
    gpu = snapshot(plan.opening.device).gpu
    begin = time.perf_counter()
    with plan.opening.open(plan.model) as detector:
        open_ms = (time.perf_counter() - begin) * 1e3
        memory["memory_open_mb"] = memory_mb("VmRSS")
        backend, spec = detector.backend, detector.spec
        run = _run(detector, _Images(plan, resize=spec.input.resize), plan)
        device_memory = backend.memory()
        memory |= {"memory_end_mb": memory_mb("VmRSS"), "memory_peak_mb": memory_mb("VmHWM")}
        device_ms = [backend.device_ms(run.images_u8) for _ in range(_DEVICE_RUNS)]
    share = _post_share(plan, backend.threads, run.images_u8)
    first_ms = run.warmup_ms[0]
    stages = run.stages()
    network_ms = stages["network"]
    return BenchResult(
        model=plan.model,
        sha256=backend.sha256,
        batch=plan.batch,
        concurrency=plan.concurrency,
        height=run.images_u8.shape[1],
        width=run.images_u8.shape[2],
        precision=spec.precision,
        precision_computed=backend.precision,
        layers=dict(backend.layers),
        backend=backend_of(plan.model, plan.opening.backend),
        post=spec.post.kind if spec.post.nms_form is None else f"{spec.post.kind} ({spec.post.nms_form})",
        device=plan.opening.device,
        providers=tuple(backend.providers),
        threads=backend.threads,
        iterations=len(network_ms),
        cold_start=ColdStart(import_ms, open_ms, first_ms, import_ms + open_ms + first_ms),
        warmup_ms=tuple(run.warmup_ms[1:]),
        jit_ms=backend.jit_ms,
        stages=Stages(**{name: _statistics(times_ms) for name, times_ms in stages.items()}),
        input=_statistics(stages["decode"] + stages["preprocess"]),
        overhead=_statistics(stages["total"] - network_ms),
        network_device=None if device_ms[0] is None else _statistics(np.array(device_ms, np.float64)),
        post_share=share,
        post_ms=None if share is None else share * float(network_ms.mean()),
        fps=plan.batch * len(network_ms) / run.seconds,
        fps_network=plan.batch * 1e3 / float(network_ms.mean()),
        **memory,
        device_memory=device_memory,
        device_used_mb=_used_mb(gpu, run.conditions.gpu),
        conditions=run.conditions,
    )


def _post_share(plan: BenchPlan, threads: int, images_u8: npt.NDArray[np.uint8]) -> float | None:
    """None for other libraries, which fuse their layers, and on a GPU, where ONNX Runtime's profiler sees launches."""
    if backend_of(plan.model, plan.opening.backend) != "onnxruntime" or plan.opening.device != "cpu":
        return None
    with temporary_folder() as folder:
        return post_share(plan.model, plan.opening.device, threads, images_u8, _PROFILE_ITERATIONS, folder)


class _Images:
    """An endless supply of batches of sources, for several threads."""

    def __init__(self, plan: BenchPlan, resize: str) -> None:
        self._sources: list[Path | bytes] = list(list_images(plan.source)) if plan.source else [synthetic_jpeg()]
        self._batch = plan.batch
        # Images of other shapes would not share a batch where the network input follows the shape.
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


@dataclass(frozen=True)
class _Run:
    """What was measured.

    Attributes:
        images_u8: the last batch of the warm-up, [B, H, W, 3].
        warmup_ms: milliseconds of the batches before the measurement.
        rows_ms: milliseconds of each batch by stage, without the total.
        seconds: how long the measurement took.
    """

    images_u8: npt.NDArray[np.uint8]
    warmup_ms: list[float]
    rows_ms: list[list[float]]
    seconds: float
    conditions: Conditions

    def stages(self) -> dict[str, npt.NDArray[np.float64]]:
        """Milliseconds of each batch by stage, the total last."""
        times_ms = np.array(self.rows_ms, np.float64)
        columns = np.hstack([times_ms, times_ms.sum(axis=1, keepdims=True)]).T
        return dict(zip((f.name for f in fields(Stages)), columns, strict=True))


def _run(detector: Detector, images: _Images, plan: BenchPlan) -> _Run:
    warmup_ms: list[float] = []
    begin = time.perf_counter()
    while len(warmup_ms) < _WARMUP_ITERATIONS or time.perf_counter() - begin < _WARMUP_S:
        row, images_u8 = _iteration(detector, images.batch())
        warmup_ms.append(sum(row))
    before = snapshot(plan.opening.device)
    begin = time.perf_counter()
    if plan.concurrency == 1:
        rows_ms = _client(detector, images, plan, begin)
    else:
        with ThreadPoolExecutor(plan.concurrency) as clients:
            futures = [clients.submit(_client, detector, images, plan, begin) for _ in range(plan.concurrency)]
            rows_ms = [row for future in futures for row in future.result()]
    seconds = time.perf_counter() - begin
    return _Run(images_u8, warmup_ms, rows_ms, seconds, between(before, snapshot(plan.opening.device)))


def _client(detector: Detector, images: _Images, plan: BenchPlan, begin: float) -> list[list[float]]:
    """One batch after the other until the plan is fulfilled."""
    rows: list[list[float]] = []
    while True:
        rows.append(_iteration(detector, images.batch())[0])
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


def _used_mb(before_opening: GpuState | None, running: tuple[GpuState, GpuState] | None) -> float | None:
    """What the GPU's memory in use has grown by, from before the file was opened until after the last batch."""
    if before_opening is None or running is None:
        return None
    before, after = before_opening.memory_used_mib, running[1].memory_used_mib
    return None if before is None or after is None else (after - before) * 2**20 / 1e6


def _statistics(values_ms: npt.NDArray[np.float64]) -> Statistics:
    p50, p90, p99 = np.percentile(values_ms, [50, 90, 99]).tolist()
    return Statistics(p50, p90, p99, float(values_ms.mean()))


if __name__ == "__main__":
    sys.exit(main())

"""What a measurement gives: milliseconds by stage, memory, and what the machine did meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aweigh.runtime.machine.conditions import Conditions


@dataclass(frozen=True)
class Statistics:
    """Percentiles and mean of milliseconds per batch."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float


@dataclass(frozen=True)
class Stages:
    """Milliseconds per batch of each stage, and of all of them one after the other; see ``plan.explain``."""

    decode: Statistics
    preprocess: Statistics
    network: Statistics
    unmap: Statistics
    total: Statistics


@dataclass(frozen=True)
class ColdStart:
    """Milliseconds from the start of a fresh process to its first detections."""

    import_ms: float
    open_ms: float
    first_ms: float
    total_ms: float


@dataclass(frozen=True)
class BenchResult:
    """The measurement of one model at one batch size and number of clients.

    Attributes:
        model: the file, as the plan names it.
        sha256: of the file.
        batch: images in a batch.
        concurrency: clients at once.
        height, width: of the network input, pixels.
        precision: of the file.
        precision_computed: what the back end computes in.
        layers: convolutions by the precision that they are computed in.
        backend: the library.
        post: kind of post-processing, and its form.
        device, providers, threads: as opened.
        iterations: batches measured, of all clients together.
        cold_start: once, in this process.
        warmup_ms: milliseconds of the batches before the measurement, without the first.
        jit_ms: milliseconds, within opening, of the first runs, in which kernels were compiled; None for a library that
            compiles none.
        stages: milliseconds per batch by stage.
        input: decode and preprocess together.
        overhead: the total without the network.
        network_device: the network by the GPU's own clock; None where the library does not show its stream.
        post_share: share, 0 to 1, of the graph's time behind its last convolutions; None where it is unknown.
        post_ms: that share of the network's mean.
        fps: images per second by the wall clock.
        fps_network: images per second if there were only the graph.
        memory_start_mb, memory_open_mb, memory_end_mb, memory_peak_mb: resident memory of the process, 10^6 bytes.
        device_memory: bytes by use, of a TensorRT engine.
        device_used_mb: growth of the GPU's memory in use, 10^6 bytes.
        conditions: what the machine did during the measurement.
    """

    model: str
    sha256: str
    batch: int
    concurrency: int
    height: int
    width: int
    precision: str
    precision_computed: str
    layers: dict[str, int]
    backend: str
    post: str
    device: str
    providers: tuple[str, ...]
    threads: int
    iterations: int
    cold_start: ColdStart
    warmup_ms: tuple[float, ...]
    jit_ms: float | None
    stages: Stages
    input: Statistics
    overhead: Statistics
    network_device: Statistics | None
    post_share: float | None
    post_ms: float | None
    fps: float
    fps_network: float
    memory_start_mb: float | None
    memory_open_mb: float | None
    memory_end_mb: float | None
    memory_peak_mb: float | None
    device_memory: dict[str, int | None] | None
    device_used_mb: float | None
    conditions: Conditions

    def to_dict(self) -> dict[str, Any]:
        """JSON values: an entry of ``results``."""
        return asdict(self)


@dataclass(frozen=True)
class BenchReport:
    """All measurements of one call.

    Attributes:
        timed: what the numbers contain, in words.
        machine: see ``machine.facts.describe``.
        results: in the order of the plans.
    """

    timed: Mapping[str, str]
    machine: Mapping[str, str | int | float]
    results: tuple[BenchResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as ``aweigh bench --json`` prints them."""
        return {
            "timed": dict(self.timed),
            "machine": dict(self.machine),
            "results": [result.to_dict() for result in self.results],
        }

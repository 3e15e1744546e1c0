"""Times by the device's own clock, on the stand-ins, where each piece of work takes a millisecond."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.backends.cuda_memory import Cuda
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.backends.tensorrt.backend import TensorRtBackend
from aweigh.runtime.bench.plan import BenchPlan
from aweigh.runtime.bench.worker import measure
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.opening import OpenOptions

MakeEngine = Callable[..., Path]


@pytest.fixture
def events(cudart: Any, monkeypatch: pytest.MonkeyPatch) -> dict[int, int | None]:
    """The events that are there, with the time at which they were recorded."""
    recorded: dict[int, int | None] = {}
    clock = [0]
    done = cudart.cudaError_t.cudaSuccess

    def create() -> Any:
        recorded[len(recorded) + 500] = None
        return done, len(recorded) + 499

    def record(event: int, stream: int) -> Any:
        recorded[event] = clock[0]
        return (done,)

    def elapsed(start: int, end: int) -> Any:
        return done, float(recorded[end] - recorded[start])  # type: ignore[operator]

    def destroy(event: int) -> Any:
        del recorded[event]
        return (done,)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            clock[0] += 1
            return call(*arguments)

        return wrapped

    for name, call in (("Create", create), ("Record", record), ("ElapsedTime", elapsed), ("Destroy", destroy)):
        monkeypatch.setattr(cudart, f"cudaEvent{name}", call, raising=False)
    for name in ("enqueue", "cudaGraphLaunch"):
        monkeypatch.setattr(cudart, name, counted(getattr(cudart, name)))
    return recorded


def test_a_run_is_timed_with_its_copies(
    tensorrt: Any, events: dict[int, int | None], make_engine: MakeEngine, make_picture: Callable[..., Any]
) -> None:
    batch = make_picture((64, 96), (10, 8, 50, 40))[None]
    path = make_engine()
    with TensorRtBackend(path) as engine, OnnxRuntimeBackend(path.with_suffix(".onnx"), threads=1) as reference:
        assert engine.device_ms(batch) == 6.0  # in, the network, four outputs
        assert events == {}
        np.testing.assert_array_equal(engine.infer(batch)["boxes"], reference.infer(batch)["boxes"])
        with pytest.raises(BadInput, match="expected uint8"):
            engine.device_ms(batch.astype(np.float32))
        assert reference.device_ms(batch) is None


def test_a_graph_is_one_piece_of_work(
    tensorrt: Any, events: dict[int, int | None], make_engine: MakeEngine, make_picture: Callable[..., Any]
) -> None:
    batch = make_picture((64, 96), (10, 8, 50, 40))[None]
    path = make_engine(batch=(1, 1), post={"kind": "nms", "nms_form": "matrix"})
    with TensorRtBackend(path) as engine:
        assert engine.providers[2] == "CUDA graph"
        assert engine.device_ms(batch) == 1.0


def test_events_are_given_back_when_the_work_fails(cudart: Any, events: dict[int, int | None]) -> None:
    cuda = Cuda(cudart, 0)
    stream = cuda.stream()

    def fail() -> None:
        raise CannotRun("planted")

    with pytest.raises(CannotRun, match="planted"):
        cuda.elapsed_ms(stream, fail)
    assert events == {}


def test_bench_of_an_engine(tensorrt: Any, events: dict[int, int | None], make_engine: MakeEngine) -> None:
    plan = BenchPlan(str(make_engine()), 2, OpenOptions("cuda"), iterations=3)
    plan.check()
    result = measure(plan, 5.0)
    assert result.device_memory is not None
    assert result.device_memory["lanes"] == 1
    assert result.post_share is None
    assert (result.threads, result.iterations) == (4, 3)
    assert result.providers[0] == "TensorRT 11.4.0.106"
    assert result.network_device is not None
    assert result.network_device.p50_ms == 6.0
    assert result.cold_start.import_ms == 5.0

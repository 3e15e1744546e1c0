"""On a machine with an NVIDIA GPU and TensorRT: build, compare with ONNX Runtime on the CPU, threads, CUDA graphs.

pytest -m gpu tests/export/engine/test_tensorrt_gpu.py
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aweigh.export.engine.build import build_engine
from aweigh.export.engine.options import EngineOptions
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.backends.tensorrt.backend import TensorRtBackend
from aweigh.runtime.files.engine import read_sidecar

MakeExport = Callable[..., Path]
BUILD_QUICKLY = EngineOptions(builder_level=0)
SIZE_HW = (128, 160)


def _missing() -> str:
    """What keeps these tests from running; empty where nothing does."""
    for module in ("tensorrt", "cuda"):
        if importlib.util.find_spec(module) is None:
            return f"needs TensorRT and an NVIDIA GPU: no module {module!r}"
    from aweigh.runtime.backends.cuda_memory import Cuda, import_cudart
    from aweigh.runtime.errors import CannotRun

    try:
        Cuda(import_cudart(""), 0)
    except CannotRun as error:
        return f"needs an NVIDIA GPU: {error}"
    return ""


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(_missing()), reason=_missing())]


def pictures(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE_HW, 3), dtype=np.uint8)


@pytest.fixture
def build(make_export: MakeExport, tmp_path: Path) -> Callable[..., Path]:
    """Exports, builds; returns the engine, whose ONNX file lies beside it."""

    def run(method: str = "fcos", options: EngineOptions = BUILD_QUICKLY, **export: Any) -> Path:
        onnx = tmp_path / f"{method}.onnx"
        shutil.copy(make_export(method, **{"post": "auto", **export}), onnx)
        out = onnx.with_suffix(".engine")
        build_engine(onnx, out, options)
        return out

    return run


def compare(engine: TensorRtBackend, path: Path, images_u8: npt.NDArray[np.uint8]) -> None:
    """FP32 without TF32 on both sides: counts and labels equal, boxes to 0.01 pixels, scores to 1e-3."""
    with OnnxRuntimeBackend(path.with_suffix(".onnx")) as reference:
        expected = reference.infer(images_u8)
    got = engine.infer(images_u8)
    np.testing.assert_array_equal(got["num_dets"], expected["num_dets"])
    assert expected["num_dets"].sum() > 10
    for row, count in enumerate(expected["num_dets"]):
        # Scores that differ by less than the tolerance may change places.
        order = [np.lexsort((*o["boxes"][row, :count].round(0).T, o["labels"][row, :count])) for o in (got, expected)]
        for name, tolerance in (("labels", 0), ("boxes", 1e-2), ("scores", 1e-3)):
            a, b = (o[name][row, :count][i] for o, i in zip((got, expected), order, strict=True))
            np.testing.assert_allclose(a, b, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("method", "export"),
    [("fcos", {"nms": "matrix"}), ("fcos", {"nms": "onnx"}), ("paa", {"nms": "matrix"}), ("o2f", {})],
)
def test_parity_at_every_batch(build: Callable[..., Path], method: str, export: dict[str, Any]) -> None:
    path = build(method, **export)
    with TensorRtBackend(path) as engine:
        for count in (1, 4, 2):
            compare(engine, path, pictures(count, seed=count))


def test_profiles_of_batches(build: Callable[..., Path]) -> None:
    path = build(options=EngineOptions(opt_batches=(1, 4), builder_level=0), nms="matrix")
    assert len(read_sidecar(path).profiles) == 2
    with TensorRtBackend(path) as engine:
        for count in (1, 3, 1, 4):
            compare(engine, path, pictures(count, seed=count))


def test_a_fixed_shape_runs_as_a_cuda_graph(build: Callable[..., Path]) -> None:
    path = build(nms="matrix", batch=(2, 2))
    with TensorRtBackend(path) as engine:
        assert engine.providers[2] == "CUDA graph"
        for seed in range(3):
            compare(engine, path, pictures(2, seed))


def test_several_threads(build: Callable[..., Path]) -> None:
    path = build(nms="matrix", batch=(1, 1))
    batches = [pictures(1, seed) for seed in range(16)]
    with TensorRtBackend(path, lanes=3) as engine:
        alone = [engine.infer(batch)["scores"] for batch in batches]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda batch: engine.infer(batch)["scores"], batches))
        memory = engine.memory()
    np.testing.assert_array_equal(alone, together)
    assert 1 <= (memory["lanes"] or 0) <= 3
    assert (memory["device_free"] or 0) < (memory["device_total"] or 0)


def test_timing_cache_and_compatibility(build: Callable[..., Path], tmp_path: Path) -> None:
    cache = tmp_path / "timing.cache"
    options = EngineOptions(builder_level=0, timing_cache=cache, hardware_compatible="same-capability")
    path = build(options=options, nms="matrix")
    assert cache.stat().st_size > 0
    assert not read_sidecar(path).settings.timing_cache
    path = build(options=options, nms="matrix")
    engine = read_sidecar(path)
    assert engine.settings.timing_cache
    assert engine.precision[0].precision == "FP32"
    with TensorRtBackend(path) as opened:
        compare(opened, path, pictures(2))

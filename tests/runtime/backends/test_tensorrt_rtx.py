"""Engines of TensorRT for RTX on stand-ins: settings, cache, warm-up, refusals. No evidence about the library."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.backends.tensorrt.backend import TensorRtBackend
from aweigh.runtime.backends.tensorrt.library import load
from aweigh.runtime.backends.tensorrt.rtx import CacheKey, cache_path, read_cache, write_cache
from aweigh.runtime.errors import CannotRun
from aweigh.runtime.files.fingerprint import Fingerprint
from aweigh.runtime.files.flavours import TENSORRT
from aweigh.runtime.files.shape_ranges import ShapeProfile

MakeEngine = Callable[..., Path]
BUILT = Fingerprint("1.7.1.116", "", "", "", "", "linux-x86_64")
RTX = {"flavour": "rtx", "targets": ("9.0",), "built": BUILT}  # the stand-in GPU has 9.0
KEY = CacheKey("0" * 64, "1.7.1.116", "8.9", "13.1")


class Cache:
    """Compiled kernels: the names of the contexts that were made."""

    def __init__(self, accepts: bool) -> None:
        self.accepts = accepts
        self.content = b"kernels"
        self.deserialized: list[bytes] = []

    def deserialize(self, blob: bytes) -> bool:
        self.deserialized.append(blob)
        return self.accepts

    def reset(self) -> bool:
        self.content = b"kernels"
        return True

    def serialize(self) -> bytes:
        return self.content


@pytest.fixture
def rtx(tensorrt: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in under the name of TensorRT for RTX, whose engines have a runtime configuration."""
    tensorrt.__version__ = "1.7.1.116"
    tensorrt.CudaGraphStrategy = SimpleNamespace(DISABLED="disabled", WHOLE_GRAPH_CAPTURE="whole")
    tensorrt.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(LAZY="lazy", EAGER="eager")
    tensorrt.cache = Cache(accepts=True)
    tensorrt.config = SimpleNamespace(
        create_runtime_cache=lambda: tensorrt.cache, set_runtime_cache=lambda cache: cache is tensorrt.cache
    )
    deserialize = tensorrt._deserialize

    def with_config(plan: bytes) -> Any:
        engine = deserialize(plan)
        plain = engine.create_execution_context
        engine.create_runtime_config = lambda: tensorrt.config
        engine.create_execution_context = lambda config: plain() if config is tensorrt.config else None
        return engine

    monkeypatch.setattr(tensorrt, "_deserialize", with_config)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", tensorrt)
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # the other flavour is not installed
    return tensorrt


def fixed(hw: tuple[int, int]) -> dict[str, Any]:
    shape = (1, *hw, 3)
    return {"profiles": (ShapeProfile(shape, shape, shape),), "sidecar": RTX}


def test_ranges_are_specialised_lazily_and_all_profiles_are_warm(rtx: Any, make_engine: MakeEngine) -> None:
    low, high = ShapeProfile((1, 64, 96, 3), (1, 64, 96, 3), (1, 64, 96, 3)), (2, 64, 96, 3)
    profiles = (low, ShapeProfile(high, (4, 64, 96, 3), (4, 64, 96, 3)))
    with TensorRtBackend(make_engine(profiles=profiles, sidecar=RTX)) as backend:
        assert rtx.config.dynamic_shapes_kernel_specialization_strategy == "lazy"
        assert rtx.config.cuda_graph_strategy == "disabled"
        assert backend.jit_ms is not None
        assert backend.jit_ms > 0
        [lane] = backend._all
        assert lane._context is not None
        assert (lane._profile, lane._shape) == (1, (4, 64, 96, 3))
        assert backend.providers[0] == "TensorRT for RTX 1.7.1.116"
        assert "kernels compiled here" in backend.providers


def test_the_cache_is_kept_and_read_again(rtx: Any, make_engine: MakeEngine) -> None:
    path = make_engine(sidecar=RTX)
    TensorRtBackend(path).close()
    assert cache_path(path).read_bytes().endswith(b"kernels")
    written = cache_path(path).stat().st_mtime_ns
    with TensorRtBackend(path) as backend:
        assert rtx.cache.deserialized == [b"kernels"]
        assert "kernels from the cache" in backend.providers
    assert cache_path(path).stat().st_mtime_ns == written

    rtx.cache = Cache(accepts=False)
    rtx.cache.content = b"refused"
    with TensorRtBackend(path) as backend:
        assert "kernels compiled here" in backend.providers
        assert backend.infer(np.zeros((1, 64, 96, 3), np.uint8))["num_dets"].shape == (1,)


def test_stale_and_damaged_caches_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "best.engine.cache"
    assert read_cache(path, KEY) is None
    assert write_cache(path, KEY, b"line\nkernels") is None
    assert read_cache(path, KEY) == b"line\nkernels"
    for other in ("plan_sha256", "tensorrt", "compute_capability", "driver_cuda"):
        assert read_cache(path, CacheKey(**{**KEY.__dict__, other: "x"})) is None
    content = path.read_bytes()
    for damaged in (b"", content[:5], content[:40], content[:-1], b"x" + content, content + b"x"):
        path.write_bytes(damaged)
        assert read_cache(path, KEY) is None
    assert "a.cache could not be written" in str(write_cache(path / "a.cache", KEY, b""))  # a file is no folder


def test_a_gpu_without_kernels_is_sent_to_the_other_flavour(rtx: Any, make_engine: MakeEngine) -> None:
    path = make_engine(sidecar={**RTX, "targets": ("8.9",)})
    with pytest.raises(CannotRun, match=r"9\.0 \(Stand-in GPU\) here; TensorRT for RTX has no kernels .*tensorrt$"):
        TensorRtBackend(path)


def test_the_missing_library_is_named_with_its_extra(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt_rtx_bindings", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CannotRun, match=r"TensorRT for RTX is not installed.*pip install '\.\[rtx\]'"):
        TensorRtBackend(make_engine(sidecar=RTX))


def test_the_wrapper_of_the_source_package_is_taken_too(
    rtx: Any, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", rtx)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
    with TensorRtBackend(make_engine(sidecar=RTX)) as backend:
        assert backend.providers[0] == "TensorRT for RTX 1.7.1.116"


def test_the_lean_runtime_runs_and_does_not_build(
    tensorrt: Any, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_lean_bindings", tensorrt)
    with TensorRtBackend(make_engine()) as backend:
        assert backend.providers[0] == "TensorRT 11.4.0.106"
    with pytest.raises(CannotRun, match="TensorRT is not installed or does not load"):
        load(TENSORRT)


def test_an_older_library_is_refused(rtx: Any, make_engine: MakeEngine) -> None:
    rtx.__version__ = "1.6.1.120"
    with pytest.raises(CannotRun, match=r"TensorRT for RTX 1\.6\.1\.120: expected 1\.7 or newer"):
        TensorRtBackend(make_engine(sidecar=RTX))

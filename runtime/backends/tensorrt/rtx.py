"""What running an engine of TensorRT for RTX adds: its runtime settings, and the kernels that it compiled, on disk.

The plan holds no kernels. The library compiles them on the GPU at the first run of a shape, which takes seconds; its
runtime cache holds them, and is kept in a file next to the plan.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.backends.tensorrt.library import LogTail, check, require
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.fingerprint import Fingerprint
from aweigh.runtime.json_text import parse_json

if TYPE_CHECKING:
    import tensorrt_rtx_bindings as rtx

_MAGIC = b"aweigh rtx cache 1\n"


@dataclass(frozen=True)
class CacheKey:
    """What compiled kernels are good for; a cache with another key is stale.

    Attributes:
        plan_sha256: of the plan.
        tensorrt: version of the library.
        compute_capability: of the GPU.
        driver_cuda: newest CUDA version of the driver.
    """

    plan_sha256: str
    tensorrt: str
    compute_capability: str
    driver_cuda: str

    @classmethod
    def of(cls, plan_sha256: str, here: Fingerprint) -> CacheKey:
        """The key of a plan on this machine."""
        return cls(plan_sha256, here.tensorrt, here.compute_capability, here.driver_cuda)


def cache_path(plan: Path) -> Path:
    """``best.engine.cache`` next to ``best.engine``."""
    return plan.with_name(plan.name + ".cache")


def read_cache(path: Path, key: CacheKey) -> bytes | None:
    """The library's bytes in a cache file; None where there is no file, or one that is cut off or stale."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    magic, header, body = content[: len(_MAGIC)], *_header(content[len(_MAGIC) :])
    return body if magic == _MAGIC and header == {**asdict(key), "bytes": len(body)} else None


def write_cache(path: Path, key: CacheKey, body: bytes) -> str | None:
    """Write a cache, whole or not at all.

    Returns:
        None, or why it could not be written: a model folder may be read-only, and the cache only saves time.
    """
    header = json.dumps({**asdict(key), "bytes": len(body)}).encode()
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(_MAGIC + header + b"\n" + body)
    except OSError as error:
        return f"{path.name} could not be written ({error.strerror or error})"
    return None


def _header(content: bytes) -> tuple[object, bytes]:
    line, _, body = content.partition(b"\n")
    try:
        return parse_json(line, "cache"), body
    except BadInput:
        return None, body


class RtxRuntime:
    """Runtime settings of one engine, and its cache; contexts made from it share compiled kernels.

    Attributes:
        remarks: on the cache, for ``Backend.providers``.
    """

    def __init__(
        self,
        module: Any,
        engine: rtx.ICudaEngine,
        plan: Path,
        key: CacheKey,
        *,
        fixed: bool,
        capture: bool,
        log: LogTail,
    ) -> None:
        """Set up the runtime of an engine.

        Args:
            module: the library.
            fixed: whether every profile stands for one shape. Its kernels are compiled at once (EAGER); where shapes
                range, general kernels run until those of a shape have been compiled in the background (LAZY).
            capture: whether the library records its kernels as a CUDA graph.

        Raises:
            CannotRun: the library refuses the settings.
        """
        self._engine, self._log = engine, log
        self._path, self._key = cache_path(plan), key
        if TYPE_CHECKING:
            import tensorrt_rtx_bindings as rtx
        else:
            rtx = module
        self._config = require(engine.create_runtime_config(), "no runtime configuration could be made", log)
        strategy = rtx.DynamicShapesKernelSpecializationStrategy
        self._config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER if fixed else strategy.LAZY
        graphs = rtx.CudaGraphStrategy
        self._config.cuda_graph_strategy = graphs.WHOLE_GRAPH_CAPTURE if capture else graphs.DISABLED
        self._cache = require(self._config.create_runtime_cache(), "no runtime cache could be made", log)
        kept = read_cache(self._path, key)
        if kept is not None and not self._cache.deserialize(kept):
            log.take()  # the library's reasons to refuse it: it is compiled and written anew
            self._cache.reset()
            kept = None
        self._kept = kept
        self.remarks: tuple[str, ...] = ("kernels from the cache" if kept else "kernels compiled here",)
        check(self._config.set_runtime_cache(self._cache), "the runtime cache was refused", log)

    def make_context(self) -> rtx.IExecutionContext | None:
        """A context with these settings; None where the library cannot make one."""
        context: rtx.IExecutionContext | None = self._engine.create_execution_context(self._config)
        return context

    def keep_cache(self) -> None:
        """Write the kernels compiled so far, where they are not those that were read."""
        blob: Any = self._cache.serialize()  # has a buffer that its stubs do not show
        body = bytes(blob)
        if body != self._kept:
            failure = write_cache(self._path, self._key, body)
            if failure is None:
                self._kept = body
            else:
                self.remarks = (*self.remarks, failure)

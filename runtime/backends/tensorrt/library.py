"""The TensorRT module, its log, and the fingerprint of this machine; shared by the runner and the builder."""

from __future__ import annotations

import platform
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from aweigh.runtime.backends.tensorrt.cuda_memory import Cuda
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.files.fingerprint import Fingerprint

if TYPE_CHECKING:
    import tensorrt as trt

T = TypeVar("T")
OLDEST = (10, 13)  # one text serves all versions from here on; older ones still typed weakly
_KEPT_LINES = 20


def import_tensorrt() -> Any:
    """The module ``tensorrt``. Raises CannotRun where it is not installed, does not load or is too old."""
    try:
        import tensorrt
    except ImportError as error:
        raise CannotRun(
            f"TensorRT is not installed or does not load ({error}): pip install 'aweigh[trt11]' (driver for CUDA 13), "
            "or 'aweigh[trt10]'; one environment holds one of them"
        ) from error
    version = str(getattr(tensorrt, "__version__", "unknown"))
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise CannotRun(
            f"TensorRT {version}: expected {'.'.join(map(str, OLDEST))} or newer; pip install 'aweigh[trt11]' or "
            "'aweigh[trt10]'"
        )
    return tensorrt


def require(value: T | None, what: str, log: LogTail | None = None) -> T:
    """``value``. Raises CannotRun with the log's last words where it is None: TensorRT tells its errors only there."""
    if value is None:
        raise CannotRun(f"{what}{log.told() if log else ''}")
    return value


def check(succeeded: bool, what: str, log: LogTail | None = None) -> None:
    """Raises CannotRun with TensorRT's last words where ``succeeded`` is false."""
    require(True if succeeded else None, what, log)


def construct(factory: Callable[..., T], *arguments: Any, log: LogTail) -> T:
    """``factory(*arguments)``, a Builder, Runtime or parser. Raises CannotRun where TensorRT cannot make one.

    Its bindings raise TypeError ("factory function returned nullptr") without a reason; that is in the log.
    """
    try:
        return factory(*arguments)
    except TypeError as error:
        raise CannotRun(f"TensorRT could not start ({error}){log.told()}; is the driver new enough?") from error


class LogTail:
    """The last warnings and errors of TensorRT, to be told when a call fails; nothing is printed.

    Safe for several threads: TensorRT writes from any.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._lock = threading.Lock()

    def add(self, line: str) -> None:
        with self._lock:
            self._lines = [*self._lines, " ".join(line.split())][-_KEPT_LINES:]

    def told(self) -> str:
        """The lines as the end of a message, and forgets them."""
        with self._lock:
            lines, self._lines = self._lines, []
        return f": {'; '.join(lines)}" if lines else " (TensorRT's log says nothing)"


def make_logger(tail: LogTail) -> trt.ILogger:
    """A TensorRT logger that keeps what is a warning or worse."""
    import tensorrt as trt

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            # Severities count downwards: INTERNAL_ERROR is 0, ERROR 1, WARNING 2.
            if int(severity) <= int(trt.ILogger.WARNING):
                tail.add(msg)

    return Logger()


def fingerprint_here(cuda: Cuda) -> Fingerprint:
    """TensorRT, GPU and driver of this machine. Raises CannotRun where they cannot be had."""
    trt = import_tensorrt()
    properties = cuda.call("cudaGetDeviceProperties", cuda.index)
    name = properties.name
    return Fingerprint(
        tensorrt=str(trt.__version__),
        gpu=(name.decode() if isinstance(name, bytes) else str(name)).rstrip("\0"),
        compute_capability=f"{properties.major}.{properties.minor}",
        cuda=_cuda_version(int(cuda.call("cudaRuntimeGetVersion"))),
        driver_cuda=_cuda_version(int(cuda.call("cudaDriverGetVersion"))),
        platform=f"{platform.system().lower()}-{platform.machine()}",
    )


def shape_of(dims: trt.Dims) -> tuple[int, ...]:
    """TensorRT's dimensions as integers; -1 stands for one that only a run tells."""
    return tuple(int(dims[i]) for i in range(len(dims)))


def numpy_dtype(dtype: trt.DataType, tensor: str) -> np.dtype[Any]:
    """The numpy type of an engine's input or output. Raises BadInput for types that numpy does not have."""
    import tensorrt as trt

    # By hand: trt.nptype fails on bfloat16 and speaks of numpy names that are gone.
    kinds = {
        "FLOAT": np.float32,
        "HALF": np.float16,
        "INT8": np.int8,
        "INT32": np.int32,
        "INT64": np.int64,
        "BOOL": np.bool_,
        "UINT8": np.uint8,
    }
    for name, kind in kinds.items():
        if dtype == getattr(trt.DataType, name):
            return np.dtype(kind)
    raise BadInput(f"tensor {tensor!r} of the engine has type {dtype}: expected one of {', '.join(kinds)}")


def _cuda_version(number: int) -> str:
    """13050 is 13.5."""
    return f"{number // 1000}.{number % 1000 // 10}"

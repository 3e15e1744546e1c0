"""The Python module of a TensorRT flavour, its log, and the fingerprint of this machine; for runner and builder."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from aweigh.runtime.backends.cuda_memory import Cuda
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.files.fingerprint import Fingerprint
from aweigh.runtime.files.flavours import Flavour, version_numbers

if TYPE_CHECKING:
    import tensorrt as trt

T = TypeVar("T")
_KEPT_LINES = 20


def load(flavour: Flavour, *, to_run: bool = False) -> Any:
    """The Python module of a flavour: the first of ``flavour.modules`` that is installed.

    With ``to_run`` a module that only runs engines will do, where there is no other.

    Callers that are to be type-checked against its real signatures bind it as::

        if TYPE_CHECKING:
            import tensorrt as trt
        else:
            trt = load(flavour)

    Raises:
        CannotRun: none is installed, one does not load, or it is too old.
    """
    module, failure = None, None
    for name in (*flavour.modules, *(flavour.lean_modules if to_run else ())):
        try:
            module = import_module(name)
            break
        except ImportError as error:
            failure = failure or error
            if getattr(error, "name", None) != name:  # installed, and broken
                break
    if module is None:
        raise CannotRun(
            f"{flavour.title} is not installed or does not load ({failure}): {flavour.install}"
        ) from failure
    version = str(getattr(module, "__version__", "unknown"))
    if version_numbers(version) < flavour.oldest:
        expected = ".".join(map(str, flavour.oldest))
        raise CannotRun(f"{flavour.title} {version}: expected {expected} or newer; {flavour.install}")
    return module


def require(value: T | None, what: str, log: LogTail | None = None) -> T:
    """``value``. Raises CannotRun with the log's last lines if it is None: TensorRT reports errors only there."""
    if value is None:
        raise CannotRun(f"{what}{log.ending() if log else ''}")
    return value


def check(succeeded: bool, what: str, log: LogTail | None = None) -> None:
    """Raises CannotRun with TensorRT's last lines where ``succeeded`` is false."""
    require(True if succeeded else None, what, log)


def construct(factory: Callable[..., T], *arguments: Any, log: LogTail) -> T:
    """``factory(*arguments)``, a Builder, Runtime or parser. Raises CannotRun where TensorRT cannot make one.

    Its bindings raise TypeError ("factory function returned nullptr") without a reason; that is in the log.
    """
    try:
        return factory(*arguments)
    except TypeError as error:
        raise CannotRun(f"TensorRT could not start ({error}){log.ending()}; is the driver new enough?") from error


class LogTail:
    """The last warnings and errors of TensorRT, for the message of a call that fails; nothing is printed.

    Safe for several threads: TensorRT writes from any.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._lock = threading.Lock()

    def add(self, line: str) -> None:
        with self._lock:
            self._lines = [*self._lines, " ".join(line.split())][-_KEPT_LINES:]

    def take(self) -> tuple[str, ...]:
        """The lines, oldest first, and forgets them."""
        with self._lock:
            lines, self._lines = self._lines, []
        return tuple(lines)

    def ending(self) -> str:
        """The lines as the end of a message, and forgets them."""
        lines = self.take()
        return f": {'; '.join(lines)}" if lines else " (TensorRT's log says nothing)"


def make_logger(trt_module: Any, tail: LogTail) -> trt.ILogger:
    """A TensorRT logger that keeps what is a warning or worse."""
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = trt_module

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            # Severities count downwards: INTERNAL_ERROR is 0, ERROR 1, WARNING 2.
            if int(severity) <= int(trt.ILogger.WARNING):
                tail.add(msg)

    return Logger()


def fingerprint_here(trt_module: Any, cuda: Cuda | None) -> Fingerprint:
    """TensorRT, GPU and driver of this machine; without ``cuda`` of a build that needs no GPU.

    Raises CannotRun where the device does not answer.
    """
    version, system = str(trt_module.__version__), f"{platform.system().lower()}-{platform.machine()}"
    if cuda is None:
        return Fingerprint(version, gpu="", compute_capability="", cuda="", driver_cuda="", platform=system)
    properties = cuda.call("cudaGetDeviceProperties", cuda.index)
    name = properties.name
    return Fingerprint(
        tensorrt=version,
        gpu=(name.decode() if isinstance(name, bytes) else str(name)).rstrip("\0"),
        compute_capability=f"{properties.major}.{properties.minor}",
        cuda=_cuda_version(int(cuda.call("cudaRuntimeGetVersion"))),
        driver_cuda=_cuda_version(int(cuda.call("cudaDriverGetVersion"))),
        platform=system,
    )


def shape_of(dims: trt.Dims) -> tuple[int, ...]:
    """TensorRT's dimensions as integers; -1 is one that only a run determines."""
    return tuple(int(dims[i]) for i in range(len(dims)))


def numpy_dtype(trt_module: Any, dtype: trt.DataType, tensor: str) -> np.dtype[Any]:
    """The numpy type of an engine's input or output. Raises BadInput for types that numpy does not have."""
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = trt_module
    # By hand: trt.nptype fails on bfloat16 and uses numpy names that are gone.
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

"""The progress of an engine build on stderr: a bar per phase on a terminal, the main phases as lines elsewhere."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, SupportsInt

from aweigh.runtime.cli.output import log_console, progress

if TYPE_CHECKING:
    import tensorrt as trt
    from rich.console import Console
    from rich.progress import TaskID


class BuildProgress:
    """Phases and steps of a build, as TensorRT reports them; use as a context manager.

    Safe for several threads: TensorRT's builder calls from its own.

    Attributes:
        stop: once set, the next step asks TensorRT to give up.
    """

    def __init__(self, stop: threading.Event, console: Console | None = None) -> None:
        self.stop = stop
        self._console = console or log_console()
        self._progress = progress(self._console)
        self._speaks = not self._console.is_terminal
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, message: str) -> None:
        """One line on stderr, above the bars."""
        self._console.print(message, markup=False)

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase begins; ``parent`` is the one that it is a part of."""
        with self._lock:
            indent = "  " if parent in self._tasks else ""
            self._tasks[phase] = self._progress.add_task(indent + phase, total=steps)
            if self._speaks and not parent:
                self.say(f"{phase}: {steps} steps")

    def step(self, phase: str, step: int) -> bool:
        """Step number ``step`` of a phase, from 0, is done; whether the build is to go on."""
        with self._lock:
            if phase in self._tasks:
                self._progress.update(self._tasks[phase], completed=step + 1)
        return not self.stop.is_set()

    def finish(self, phase: str) -> None:
        """A phase is over, all of its steps taken or not."""
        with self._lock:
            task = self._tasks.pop(phase, None)
            if task is not None:
                self._progress.remove_task(task)


def make_monitor(trt_module: Any, progress: BuildProgress) -> trt.IProgressMonitor:
    """What TensorRT's builder reports its progress to; keep it until the build is over."""
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = trt_module

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            super().__init__()  # pybind11 wants it called

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: SupportsInt) -> None:
            progress.start(phase_name, parent_phase, int(num_steps))

        def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
            return progress.step(phase_name, int(step))

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()

"""One checkout's loss, a call each time a line comes in: what losses_turns.py runs, by each checkout's own Python.

    PYTHON benchmarks/support/loss_process.py CHECKOUT METHOD TRUTHS_PER_IMAGE

Prints a line when it is ready, and for each line that it reads the milliseconds of one forward and backward. Its
memory is kept (keep_memory), so that what is timed is the loss.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_memory() -> bool:
    """Let freed memory stay with this process; False where the C library is not glibc.

    Else it depends on where the heap happened to lie whether glibc hands large blocks back to the system after each
    call: of equal processes some take thousands of page faults a call and some none.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_TRIM_THRESHOLD, -1) and mallopt(_MMAP_MAX, 0))


def main(arguments: Sequence[str]) -> None:
    checkout, name, per_image = arguments
    sys.path.insert(0, str(Path(checkout) / "benchmarks"))
    losses = importlib.import_module("losses")
    torch.set_num_threads(1)
    keep_memory()
    # Before 2026-11-29 the inputs had no device.
    device = [torch.device("cpu")] if "device" in inspect.signature(losses.truths).parameters else []
    method = losses.make_method(name, losses.CLASSES)
    points, targets = losses.points_for(method, *device), losses.truths(int(per_image), *device)
    predictions = losses.inputs(points, deltas=name == "paa")

    def once() -> float:
        for tensor in (predictions.cls_logits, predictions.reg, predictions.obj_logits):
            tensor.grad = None
        begin_s = time.perf_counter()
        total = torch.stack(list(method.loss(predictions, points, targets, 0.5).values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return (time.perf_counter() - begin_s) * 1e3

    for _ in range(3):
        once()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(once(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

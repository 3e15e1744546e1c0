"""Cost of every method's loss next to a plain sigmoid focal loss, one thread, 800x1344, 80 classes, batch 2.

    python benchmarks/losses.py --out benchmarks/results/losses.json
    python benchmarks/losses.py --device cuda               # by the host's clock, once the GPU is done
    python benchmarks/losses.py --compile                   # and as torch.compile makes it, if a compiler is at hand

Forward and backward, over ground-truth boxes spread as in COCO's crowded images. The plain focal loss is written the
usual way, dense tensors and autograd, and runs on the same logits in the same process, in turns with the methods;
what counts is the ratio. Freed memory stays with the process (support/loss_process.py); --c-library leaves it to the C
library, whose page faults are then in the times of both. Memory is the peak of what the loss allocates beyond its
inputs and their gradients, from torch's profiler; on a GPU, from its allocator.

With --compile each loss is compiled once, for sizes that change, and meets all numbers of objects in turn before it is
timed with each. What the compiler could not take in one piece is counted (graphs), and so is its time.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity, profile

from aweigh.runtime.device import Device
from aweigh.train.dense.points import Points, make_points
from aweigh.train.methods import METHODS, Method, Predictions, Targets, make_method
from aweigh.train.process.device import resolve_device
from support.loss_process import keep_memory
from support.paired import in_turns, paired_ratio
from support.reports.grid import Column, interval
from support.reports.layout import Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report
from support.reports.script import make_parser, public_command, publish, run

SIZE_HW, STRIDES, CLASSES, BATCH = (800, 1344), (8, 16, 32, 64, 128), 80, 2


LAYOUT = Layout(
    tables(
        {
            "loss against a plain focal loss": (
                Column("method", "method"),
                Column("device", lambda row: row.get("device", "cpu")),
                Column("objects per picture", "truths_per_image"),
                Column("ms", "loss_ms", ".1f"),
                Column("plain ms", "plain_focal_ms", ".1f"),
                Column("ratio", lambda row: "{:.2f} ({:.2f} to {:.2f})".format(row["ratio"], *row["ratio_quartiles"])),
                Column("extra memory, logits", "peak_extra_in_logits", ".1f"),
                Column("compiled ms", "compiled.ms", ".1f"),
                Column("compiled over eager", interval("compiled.ratio")),
                Column("graphs", "compiled.graphs"),
                Column("compiling s", "compiled.seconds", ".0f"),
            )
        }
    ),
    plots=(Bars("time over a plain focal loss", ("method", "truths_per_image"), "ratio", "ratio", 1.0),),
)


def points_for(method: Method, device: torch.device) -> Points:
    shapes = [(-(-SIZE_HW[0] // s), -(-SIZE_HW[1] // s)) for s in STRIDES]
    return make_points(shapes, STRIDES, method.point_offset, device)


def inputs(points: Points, deltas: bool) -> Predictions:
    """The same numbers on every device."""
    generator = torch.Generator().manual_seed(0)
    count = len(points.xy)
    cls_logits = torch.randn(BATCH, count, CLASSES, generator=generator) - 4
    reg = torch.randn(BATCH, count, 4, generator=generator)
    if not deltas:
        reg = (reg.abs() + 0.5) * points.stride.cpu()[:, None] * 2
    obj_logits = torch.randn(BATCH, count, generator=generator)
    return Predictions(*(t.to(points.xy.device).requires_grad_() for t in (cls_logits, reg, obj_logits)))


def truths(per_image: int, device: torch.device) -> Targets:
    """Sides log-uniform from 16 to 400 pixels."""
    generator = torch.Generator().manual_seed(1)
    boxes, labels = [], []
    for _ in range(BATCH):
        side = torch.exp(torch.rand(per_image, 2, generator=generator) * 3.2) * 16
        limit = torch.tensor([SIZE_HW[1], SIZE_HW[0]]) - side
        low = torch.rand(per_image, 2, generator=generator) * limit
        boxes.append(torch.cat((low, low + side), dim=1))
        labels.append(torch.randint(0, CLASSES, (per_image,), generator=generator))
    return Targets.join(boxes, labels, device)


def plain_focal(cls_logits: Tensor, target: Tensor) -> Tensor:
    """As in most code bases: alpha 0.25, gamma 2, dense targets."""
    probability = cls_logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(cls_logits, target, reduction="none")
    right = probability * target + (1 - probability) * (1 - target)
    alpha = 0.25 * target + 0.75 * (1 - target)
    return (alpha * (1 - right).square() * entropy).sum()


def backward(run: Callable[[], Tensor]) -> None:
    """Forward and backward, until the device is done."""
    total = run()
    total.backward()  # type: ignore[no-untyped-call]
    if total.is_cuda:
        torch.cuda.synchronize(total.device)


def peak_extra_bytes(run: Callable[[], Tensor], device: torch.device) -> int:
    """Highest sum of live allocations during forward and backward."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        backward(run)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        backward(run)
    live = peak = 0
    memory = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(memory, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


Loss = Callable[[Predictions, Points, Targets, float], dict[str, Tensor]]


@dataclass(frozen=True)
class Compiled:
    """A compiled loss, the graphs that it took and the seconds of making them."""

    loss: Loss
    graphs: int
    seconds: float


def summed(loss: Loss, predictions: Predictions, points: Points, targets: Targets) -> Callable[[], Tensor]:
    """The loss as a call, on fresh gradients."""

    def call() -> Tensor:
        for tensor in (predictions.cls_logits, predictions.reg, predictions.obj_logits):
            tensor.grad = None
        return torch.stack(list(loss(predictions, points, targets, 0.5).values())).sum()

    return call


def compiled(method: Method, name: str, numbers: Sequence[int], device: torch.device) -> Compiled:
    """The loss of a method, compiled while it meets all numbers of objects, twice."""
    torch.compiler.reset()
    counters.clear()
    loss: Loss = torch.compile(method.loss, dynamic=True)
    points = points_for(method, device)
    predictions = inputs(points, deltas=name == "paa")
    started = time.perf_counter()
    for per_image in (*numbers, *numbers):
        backward(summed(loss, predictions, points, truths(per_image, device)))
    return Compiled(loss, int(counters["stats"]["unique_graphs"]), time.perf_counter() - started)


def measure(
    method: Method, name: str, per_image: int, rounds: int, device: torch.device, made: Compiled | None
) -> dict[str, Any]:
    points, targets = points_for(method, device), truths(per_image, device)
    predictions = inputs(points, deltas=name == "paa")
    target = torch.zeros_like(predictions.cls_logits)
    ours = summed(method.loss, predictions, points, targets)

    def plain() -> Tensor:
        predictions.cls_logits.grad = None
        return plain_focal(predictions.cls_logits, target)

    runs: dict[str, Callable[[], object]] = {"ours": lambda: backward(ours), "plain": lambda: backward(plain)}
    if made is not None:
        fused = summed(made.loss, predictions, points, targets)
        runs["compiled"] = lambda: backward(fused)
    times_ms = in_turns(runs, rounds, warm_up=1)
    ratios = sorted(a / b for a, b in zip(times_ms["ours"], times_ms["plain"], strict=True))
    logits = predictions.cls_logits.numel() * 4
    row: dict[str, Any] = {
        "method": name,
        "device": str(device),
        "truths_per_image": per_image,
        "loss_ms": statistics.median(times_ms["ours"]),
        "plain_focal_ms": statistics.median(times_ms["plain"]),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
        # The gradients of the inputs are results, not extra.
        "peak_extra_in_logits": (peak_extra_bytes(ours, device) - logits) / logits,
    }
    if made is not None:
        row["compiled"] = {
            "ms": statistics.median(times_ms["compiled"]),
            "ratio": paired_ratio(times_ms["compiled"], times_ms["ours"]).to_dict(),
            "graphs": made.graphs,
            "seconds": made.seconds,
        }
    return row


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--truths", default="12,100,300")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    parser.add_argument("--compile", action="store_true", help="also time each loss as torch.compile makes it")
    parser.add_argument("--c-library", action="store_true", help="let the C library give freed memory back, as it does")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    kept = not options.c_library and keep_memory()
    device = resolve_device(Device.parse(options.device))
    numbers, rows = [int(number) for number in options.truths.split(",")], []
    for name in options.methods.split(","):
        method = make_method(name, CLASSES).to(device)
        made = compiled(method, name, numbers, device) if options.compile else None
        rows += [measure(method, name, per_image, options.rounds, device, made) for per_image in numbers]
    what = "loss forward + backward, one thread, 800x1344, 80 classes, batch 2, float32"
    what += ", freed memory kept" if kept else ", memory left to the C library"
    publish(Report.here("losses", what, rows, public_command("losses.py", arguments)), LAYOUT, options)
    return 0


if __name__ == "__main__":
    sys.exit(run("losses.py", main))

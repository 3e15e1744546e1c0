"""Cost of every method's loss beside a plain sigmoid focal loss, one thread, 800x1344, 80 classes, batch 2.

    python benchmarks/losses.py --out benchmarks/results/losses.json

Forward and backward, over truths spread as in COCO's crowded pictures. The plain focal loss is written the usual way,
dense tensors and autograd, and runs on the same logits in the same process, in turns with the methods; what counts is
the ratio. Memory is the peak of what the loss allocates beyond its inputs and their gradients, from torch's profiler.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.machine import describe
from aweigh.train.methods import METHODS, Method, Predictions, Targets, make_method
from aweigh.train.points import Points, make_points
from aweigh.train.run_dir import commit, versions

SIZE_HW, STRIDES, CLASSES, BATCH = (800, 1344), (8, 16, 32, 64, 128), 80, 2


def points_for(method: Method) -> Points:
    shapes = [(-(-SIZE_HW[0] // s), -(-SIZE_HW[1] // s)) for s in STRIDES]
    return make_points(shapes, STRIDES, method.point_offset)


def inputs(points: Points, deltas: bool) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    count = len(points.xy)
    cls_logits = torch.randn(BATCH, count, CLASSES, generator=generator) - 4
    reg = torch.randn(BATCH, count, 4, generator=generator)
    if not deltas:
        reg = (reg.abs() + 0.5) * points.stride[:, None] * 2
    obj_logits = torch.randn(BATCH, count, generator=generator)
    return Predictions(*(t.requires_grad_() for t in (cls_logits, reg, obj_logits)))


def truths(per_image: int) -> Targets:
    """Sides log-uniform from 16 to 400 pixels."""
    generator = torch.Generator().manual_seed(1)
    boxes, labels = [], []
    for _ in range(BATCH):
        side = torch.exp(torch.rand(per_image, 2, generator=generator) * 3.2) * 16
        limit = torch.tensor([SIZE_HW[1], SIZE_HW[0]]) - side
        low = torch.rand(per_image, 2, generator=generator) * limit
        boxes.append(torch.cat((low, low + side), dim=1))
        labels.append(torch.randint(0, CLASSES, (per_image,), generator=generator))
    return Targets.join(boxes, labels)


def plain_focal(cls_logits: Tensor, target: Tensor) -> Tensor:
    """As in most code bases: alpha 0.25, gamma 2, dense targets."""
    probability = cls_logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(cls_logits, target, reduction="none")
    right = probability * target + (1 - probability) * (1 - target)
    alpha = 0.25 * target + 0.75 * (1 - target)
    return (alpha * (1 - right).square() * entropy).sum()


def timed_ms(run: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    run().backward()  # type: ignore[no-untyped-call]
    return (time.perf_counter() - start) * 1000


def peak_extra_bytes(run: Callable[[], Tensor]) -> int:
    """Highest sum of live allocations during forward and backward."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run().backward()  # type: ignore[no-untyped-call]
    live = peak = 0
    memory = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    for event in sorted(memory, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def measure(name: str, per_image: int, rounds: int) -> dict[str, Any]:
    method = make_method(name, CLASSES)
    points, targets = points_for(method), truths(per_image)
    predictions = inputs(points, deltas=name == "paa")
    target = torch.zeros_like(predictions.cls_logits)

    def clear() -> None:
        for tensor in (predictions.cls_logits, predictions.reg, predictions.obj_logits):
            tensor.grad = None

    def ours() -> Tensor:
        clear()
        return torch.stack(list(method.loss(predictions, points, targets, 0.5).values())).sum()

    def plain() -> Tensor:
        clear()
        return plain_focal(predictions.cls_logits, target)

    for run in (ours, plain):
        timed_ms(run)
    pairs = [(timed_ms(ours), timed_ms(plain)) for _ in range(rounds)]
    ratios = sorted(a / b for a, b in pairs)
    logits = predictions.cls_logits.numel() * 4
    return {
        "method": name,
        "truths_per_image": per_image,
        "loss_ms": statistics.median(a for a, _ in pairs),
        "plain_focal_ms": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
        # The gradients of the inputs are results, not extra.
        "peak_extra_in_logits": (peak_extra_bytes(ours) - logits) / logits,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--truths", default="12,100,300")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in options.methods.split(","):
        for per_image in map(int, options.truths.split(",")):
            row = measure(name, per_image, options.rounds)
            rows.append(row)
            memory = row["peak_extra_in_logits"]
            print(
                f"{name:10} {per_image:4} truths: {row['loss_ms']:6.1f} ms, plain focal "
                f"{row['plain_focal_ms']:6.1f} ms, ratio {row['ratio']:.2f}, extra memory {memory:.1f} x logits",
                flush=True,
            )
    if options.out:
        report = {
            "what": "loss forward + backward, one thread, 800x1344, 80 classes, batch 2, float32",
            "date": date.today().isoformat(),
            "command": " ".join(["python", "benchmarks/losses.py", *sys.argv[1:]]),
            "machine": describe(),
            "versions": versions(),
            "commit": commit(),
            "results": rows,
        }
        with atomic_write(options.out) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Speed of training: the shipped defaults next to plain float32 in channels-first; shares of loss and loader.

    python benchmarks/train_speed.py --rounds 40 --out benchmarks/results/train_speed.json
    python benchmarks/train_speed.py --device cuda --model r50 --imgsz 800x1344 --batch 16 --methods dw,o2f,...

ResNet-18 at 320x320, batch 8, on two threads, generated images of that size unless --data names others. Steps of
both ways take turns in one process on the same batches. The loss is timed on the maps of such a step, forward and back.
The loader is timed with the shipped number of workers: how long a step waits for its batch, and how fast it is alone.
On a GPU, times run until it has done all it was asked for, and the peak of the memory that torch took is reported.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from aweigh.runtime.errors import BadInput, CheckFailed
from aweigh.runtime.size import Size
from aweigh.train.config import TrainConfig, make_config
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.loading.loader import Batch, TrainingLoader
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.loop.batches import training_batches
from aweigh.train.loop.learner import Learner
from aweigh.train.methods import Targets
from aweigh.train.process.device import deterministic
from aweigh.train.process.processes import make_fabric
from aweigh.train.run.data import load_data, make_augment, make_spec
from support.paired import in_turns, paired_ratio
from support.reports.grid import Column, interval
from support.reports.layout import Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report
from support.reports.script import make_parser, public_command, publish, run

LAYOUT = Layout(
    tables(
        {
            "a training step": (
                Column("method", "method"),
                Column("pixels made on", lambda row: row.get("augment_on", "host")),
                Column("network", "model"),
                Column("input", lambda row: row["imgsz"]),
                Column("device", "gpu"),
                Column("batch", "batch"),
                Column("threads", "threads"),
                Column("shipped ms", "shipped_ms", ".0f"),
                Column("plain float32 ms", "plain_ms", ".0f"),
                Column("times as fast", interval("speedup", ".2f")),
                Column("the loss's share", "loss_share.median", ".1%"),
                Column("waiting for data", "waiting_share", ".1%"),
                Column("loader alone, ms", "loader_ms", ".0f"),
                Column("pictures/s", "images_per_s", ".1f"),
                Column("GPU memory, GB", "peak_gb", ".1f"),
                Column("plain, GB", "plain_peak_gb", ".1f"),
            )
        }
    ),
    plots=(Bars("times as fast as plain float32", ("method", "augment_on"), "speedup.median", "ratio", 1.0),),
)


class Rehearsal:
    """A learner and its batches; ``step`` does one step as the loop does it."""

    def __init__(self, config: TrainConfig) -> None:
        train_split, _ = load_data(config)
        spec = make_spec(config, train_split)
        self.config = config
        self.dataset = DetectionDataset(
            train_split, spec.input, make_augment(config.augment), config.seed, augment_on=config.augment_on
        )
        self.learner = Learner(config, spec, make_fabric(config))
        self._iteration = 0

    def loader(self) -> TrainingLoader:
        return training_batches(self.config, self.dataset, self.learner.fabric)

    def step(self, batch: Batch) -> None:
        self.learner.rehearse(batch, self._iteration)
        self._iteration += 1


def stepper(rehearsal: Rehearsal, batches: Sequence[Batch]) -> Callable[[], object]:
    """A step on the next of the batches."""
    following = itertools.cycle(batches)
    return lambda: rehearsal.step(next(following))


def loss_alone(learner: Learner, batch: Batch) -> Callable[[], object]:
    """The loss of a step, forward and backward, from the maps of the network."""
    method, device = learner.detector.method, learner.fabric.device
    with torch.no_grad():
        maps = learner.model(batch.images_u8.to(device))
    points = learner.detector.points(maps)
    targets = Targets.join(batch.boxes_xyxy, batch.labels, device)
    leaves = [{name: tensor.detach().requires_grad_() for name, tensor in level.items()} for level in maps]

    def loss() -> None:
        losses = method.loss(method.predictions(leaves, points), points, targets, 0.5)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]

    return loss


def until_done(run: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """The run, and on a GPU the wait for what it has only been asked for."""
    if device.type == "cpu":
        return run

    def whole() -> None:
        run()
        torch.cuda.synchronize(device)

    return whole


def peak_gb(run: Callable[[], object], device: torch.device, before_bytes: int) -> float | None:
    """What torch holds at the peak of three runs, more than ``before_bytes``; None on the CPU."""
    if device.type == "cpu":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(3):
        run()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before_bytes) / 1e9


def held_bytes(device: torch.device) -> int:
    return 0 if device.type == "cpu" else torch.cuda.memory_allocated(device)


def waiting(rehearsal: Rehearsal, steps: int) -> dict[str, float]:
    """What the loader costs: waiting beside a step, and its own time for a batch."""
    loader = iter(rehearsal.loader())
    next(loader)  # starts the workers
    waited_s = 0.0
    started = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(loader)
        waited_s += time.perf_counter() - asked
        rehearsal.step(batch)
    whole_s = time.perf_counter() - started
    alone = []
    for _ in range(steps):
        asked = time.perf_counter()
        next(loader)
        alone.append(time.perf_counter() - asked)
    loader.close()
    return {"waiting_share": waited_s / whole_s, "loader_ms": statistics.mean(alone) * 1e3}


def measure(data: str, method: str, rounds: int, options: dict[str, Any]) -> dict[str, Any]:
    shared = {"data": data, "method": method, **options}
    shipped = Rehearsal(make_config(shared))
    device = shipped.learner.fabric.device
    torch.set_num_threads(shipped.config.threads)
    loader = iter(shipped.loader())
    batches = [next(loader) for _ in range(min(8, shipped.loader().batches_per_epoch))]
    loader.close()
    peaks_gb = [peak_gb(stepper(shipped, batches), device, 0)]
    held = held_bytes(device)
    plain = Rehearsal(make_config({**shared, "precision": "fp32", "channels_last": False}))
    peaks_gb.append(peak_gb(stepper(plain, batches), device, held))
    with deterministic(device):
        runs = {
            "shipped": stepper(shipped, batches),
            "plain": stepper(plain, batches),
            "loss": loss_alone(shipped.learner, batches[0]),
        }
        times_ms = in_turns({name: until_done(run, device) for name, run in runs.items()}, rounds)
        cost = waiting(shipped, rounds)
    step_ms = statistics.median(times_ms["shipped"])
    return {
        "method": method,
        "augment_on": shipped.config.augment_on,
        "model": shipped.config.model,
        "gpu": None if device.type == "cpu" else torch.cuda.get_device_name(device),
        "batch": shipped.config.batch,
        "imgsz": str(shipped.config.imgsz),
        "threads": shipped.config.threads,
        "shipped_ms": step_ms,
        "plain_ms": statistics.median(times_ms["plain"]),
        "speedup": paired_ratio(times_ms["plain"], times_ms["shipped"]).to_dict(),
        "loss_share": paired_ratio(times_ms["loss"], times_ms["shipped"]).to_dict(),
        **cost,
        "images_per_s": shipped.config.batch * 1e3 / step_ms,
        "loader_images_per_s": shipped.config.batch * 1e3 / cost["loader_ms"],
        "peak_gb": peaks_gb[0],
        "plain_peak_gb": peaks_gb[1],
    }


def require(
    rows: Sequence[dict[str, Any]], at_least: float | None, limit_loss: float | None, over: tuple[str, float] | None
) -> None:
    """Raises CheckFailed where a figure misses its limit.

    Args:
        over: a method, and how many of its steps a step of any other may take.
    """
    for row in rows:
        speedup, share = row["speedup"]["median"], row["loss_share"]["median"]
        if at_least is not None and speedup < at_least:
            raise CheckFailed(f"{row['method']}: {speedup:.2f} times plain float32, expected at least {at_least}")
        if limit_loss is not None and share > limit_loss:
            raise CheckFailed(f"{row['method']}: the loss is {share:.1%} of a step, expected at most {limit_loss:.1%}")
    if over is None:
        return
    method, most = over
    base_ms = [row["shipped_ms"] for row in rows if row["method"] == method]
    if not base_ms:
        raise BadInput(f"--limit-over {method}: not among --methods {', '.join(row['method'] for row in rows)}")
    for row in rows:
        if row["shipped_ms"] > most * min(base_ms):
            times = row["shipped_ms"] / min(base_ms)
            raise CheckFailed(f"{row['method']}: {times:.2f} steps of {method}, expected at most {most}")


def _over(text: str) -> tuple[str, float]:
    method, _, most = text.partition("=")
    return method, float(most)


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--data", help="data set (default: 64 generated pictures of the input's size)")
    parser.add_argument("--methods", default="dw,o2f,fcos")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    parser.add_argument("--model", default="r18", help="network (default %(default)s)")
    parser.add_argument("--imgsz", default="320")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--at-least", type=float, metavar="X", help="times as fast as plain float32, else exit code 1")
    parser.add_argument("--limit-loss", type=float, metavar="SHARE", help="largest share of the loss, else exit code 1")
    parser.add_argument(
        "--limit-over", type=_over, metavar="METHOD=X", help="most steps of METHOD that one of any other may take"
    )
    parser.add_argument("--augment-on", default="host", help="host, device or host,device (default %(default)s)")
    options = parser.parse_args(arguments)
    sizes = {name: getattr(options, name) for name in ("device", "model", "imgsz", "batch", "threads")}
    size_hw = Size.parse(options.imgsz)
    with tempfile.TemporaryDirectory() as folder:
        shapes = Path(folder) / "shapes"
        data = options.data or str(generate_shapes(shapes, train=64, val=8, test=8, size_hw=size_hw))
        settings = {**sizes, "project": folder}
        rows = [
            measure(data, name, options.rounds, {**settings, "augment_on": place})
            for name in options.methods.split(",")
            for place in options.augment_on.split(",")
        ]
    what = "one training step: bf16 autocast and channels-last beside float32 (not TF32) and channels-first"
    about = {"data": "given" if options.data else "generated"}
    publish(Report.here("train_speed", what, rows, public_command("train_speed.py", arguments), about), LAYOUT, options)
    require(rows, options.at_least, options.limit_loss, options.limit_over)
    return 0


if __name__ == "__main__":
    sys.exit(run("train_speed.py", main))

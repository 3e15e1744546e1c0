"""The verb demo."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aweigh.runtime.cli.output import console, emit_json

if TYPE_CHECKING:
    from aweigh.export.jobs.demo import DemoResult


def run_demo_verb(arguments: argparse.Namespace) -> int:
    """0 where the exported file passed its receipt, 1 where it did not."""
    from aweigh.export.jobs.demo import run_demo

    result = run_demo(arguments.out, arguments.method, arguments.seed, arguments.threads)
    if arguments.json:
        emit_json(result.to_dict())
    else:
        print_demo(result)
    return 0 if result.receipt == "passed" else 1


def print_demo(result: DemoResult) -> None:
    """The closing lines: what was reached, where it lies, what to type next."""
    from rich.table import Table

    out = console()
    table = Table(title=f"demo, {result.method}, {result.seconds:.0f} s", title_justify="left", show_header=False)
    table.add_row("AP / AP50 of the exported file, unseen images", f"{result.ap:.3f} / {result.ap50:.3f}")
    table.add_row("receipt: exported file = trained model", result.receipt)
    table.add_row("one image, JPEG to boxes, this machine", f"{result.latency_ms:.1f} ms")
    out.print(table)
    for what, path in (
        ("exported file", result.artifact),
        ("its receipt", result.page),
        ("checkpoint", result.checkpoint),
        ("images with boxes", result.images),
    ):
        out.print(f"{what:20} {path}")
    out.print("\nWith your own data (COCO JSON, Pascal VOC, or a YOLO data.yaml):")
    for line in (
        f"aweigh train   --data YOUR_DATA --method {result.method} --model r18 --minutes 10 --name mine",
        "aweigh export  --model runs/train/mine/weights/best.pt --data YOUR_DATA --out mine.onnx",
        "aweigh predict --model mine.onnx --source YOUR_IMAGES --out found",
    ):
        out.print(f"  {line}")

"""The main job from end to end on generated data: generate, train, export, prove, run, measure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from aweigh.export.jobs.onnx import ExportOptions, run_export
from aweigh.runtime.bench.plan import BenchPlan
from aweigh.runtime.bench.run import bench_models
from aweigh.runtime.cli.output import console
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.predict.plan import PredictPlan
from aweigh.runtime.predict.run import predict_sources
from aweigh.train.config import make_config
from aweigh.train.data.open import load_split
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.evaluation.run import evaluate, open_predictor
from aweigh.train.process.console import say
from aweigh.train.run.session import train

PICTURES = 16


@dataclass(frozen=True)
class DemoPlan:
    """Sizes of the demonstration; the defaults take less than three minutes on two cores.

    Attributes:
        train, val, test: generated pictures; the best weights are chosen on val, the AP reported is that of test.
        side_px: of the pictures and of the network input.
        network: what differs from ``nano``.
    """

    train: int = 1000
    val: int = 50
    test: int = 100
    side_px: int = 192
    epochs: int = 20
    batch: int = 16
    lr0: float = 0.005
    network: dict[str, Any] | None = None


def run_demo(
    out: Path, method: str = "dw", seed: int = 0, threads: int = 0, plan: DemoPlan | None = None
) -> dict[str, Any]:
    """Write data, run, artifact, receipt and pictures below ``out``.

    Returns:
        ``AP`` (of the exported file on the test split), ``method``, ``seconds``, ``receipt``, ``latency_ms`` (median,
        one picture, JPEG to boxes), ``artifact``, ``checkpoint``, ``data``, ``page``, ``pictures``.

    Raises:
        BadInput: ``out`` exists and is not empty.
    """
    plan = plan or DemoPlan()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"--out {out}: exists and is not an empty folder; remove it or take another")
    started = time.perf_counter()
    say("1/5 generate pictures")
    data = generate_shapes(
        out / "data", plan.train, plan.val, plan.test, size_hw=(plan.side_px, plan.side_px), seed=seed
    )
    say(f"2/5 train {method}")
    config = make_config(
        {
            "data": str(data),
            "method": method,
            "model": "nano",
            "imgsz": str(plan.side_px),
            "epochs": plan.epochs,
            "batch": plan.batch,
            "lr0": plan.lr0,
            "ema": 0.995,
            "threads": threads,
            "seed": seed,
            "project": str(out),
            "name": "run",
            "augment": {"scale": 0.1},
            "network": plan.network or {},
        }
    )
    checkpoint = Path(train(config)["checkpoint"])
    say("3/5 export and prove")
    artifact = out / "model.onnx"
    exported = run_export(checkpoint, artifact, ExportOptions(data=str(data)))
    say("4/5 detect in pictures it has never seen")
    test = load_split(data, "test")
    with open_predictor(artifact) as predictor:
        metrics = evaluate(predictor, test)
    pictures = out / "pictures"
    with Detector(artifact) as detector:
        predict_sources(
            detector, PredictPlan([record.path for record in test.records[:PICTURES]], conf=0.5, out=pictures)
        )
    say("5/5 measure")
    measured = bench_models([BenchPlan(str(artifact), batch=1, source=str(test.records[0].path), seconds=2.0)])
    return {
        "AP": metrics["AP"],
        "AP50": metrics["AP50"],
        "method": method,
        "seconds": round(time.perf_counter() - started, 1),
        "receipt": exported["verdict"],
        "latency_ms": round(measured.results[0].stages.total.p50_ms, 2),
        "artifact": str(artifact),
        "checkpoint": str(checkpoint),
        "data": str(data),
        "page": exported["page"],
        "pictures": str(pictures),
    }


def print_demo(result: dict[str, Any]) -> None:
    """The closing lines: what was reached, where it lies, what to type next."""
    out = console()
    table = Table(title=f"demo, {result['method']}, {result['seconds']:.0f} s", title_justify="left", show_header=False)
    table.add_row("AP / AP50 of the exported file, unseen pictures", f"{result['AP']:.3f} / {result['AP50']:.3f}")
    table.add_row("receipt: exported file = trained model", result["receipt"])
    table.add_row("one picture, JPEG to boxes, this machine", f"{result['latency_ms']:.1f} ms")
    out.print(table)
    for what, key in (
        ("exported file", "artifact"),
        ("its receipt", "page"),
        ("checkpoint", "checkpoint"),
        ("pictures with boxes", "pictures"),
    ):
        out.print(f"{what:20} {result[key]}")
    out.print("\nWith your own data (COCO JSON, Pascal VOC, or a YOLO data.yaml):")
    for line in (
        f"aweigh train   --data YOUR_DATA --method {result['method']} --model r18 --minutes 10 --name mine",
        "aweigh export  --model runs/train/mine/weights/best.pt --data YOUR_DATA --out mine.onnx",
        "aweigh predict --model mine.onnx --source YOUR_PICTURES --out found",
    ):
        out.print(f"  {line}")

"""The main job from end to end on generated data: generate, train, export, prove, run, measure."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from aweigh.export.jobs.export import export
from aweigh.export.jobs.options import ExportOptions
from aweigh.runtime.bench.plan import BenchPlan
from aweigh.runtime.bench.run import bench_models
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.predict.plan import PredictPlan
from aweigh.runtime.predict.run import predict_sources
from aweigh.train.config import make_config
from aweigh.train.data.open import load_split
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.evaluation.run import evaluate
from aweigh.train.process.console import say
from aweigh.train.run.session import train

IMAGES = 16


@dataclass(frozen=True)
class DemoPlan:
    """Sizes of the demonstration; the defaults take less than three minutes on two cores.

    Attributes:
        train, val, test: generated images; the best weights are chosen on val, the AP reported is that of test.
        side_px: of the images and of the network input.
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


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration reached, and where it lies.

    Attributes:
        ap, ap50: of the exported file on the test split, 0 to 1.
        seconds: of the whole demonstration.
        receipt: its verdict, "passed" or "failed".
        latency_ms: median of one image, JPEG to boxes.
        artifact: the exported file; page: its receipt.
        images: folder of images with their detections.
    """

    ap: float
    ap50: float
    method: str
    seconds: float
    receipt: str
    latency_ms: float
    artifact: Path
    checkpoint: Path
    data: Path
    page: Path
    images: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        names = {"ap": "AP", "ap50": "AP50", "images": "pictures"}
        values = {names.get(field.name, field.name): getattr(self, field.name) for field in fields(self)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def run_demo(
    out: Path, method: str = "dw", seed: int = 0, threads: int = 0, plan: DemoPlan | None = None
) -> DemoResult:
    """Write data, run, artifact, receipt and images below ``out``.

    Raises:
        BadInput: ``out`` exists and is not empty.
    """
    plan = plan or DemoPlan()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"--out {out}: exists and is not an empty folder; remove it or take another")
    started = time.perf_counter()
    say("1/5 generate images")
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
    checkpoint = Path(train(config).checkpoint)
    say("3/5 export and prove")
    artifact = out / "model.onnx"
    exported = export(checkpoint, artifact, ExportOptions(data=str(data)))
    say("4/5 detect in images it has never seen")
    test = load_split(data, "test")
    metrics = evaluate(artifact, data, "test").metrics
    images = out / "pictures"
    with Detector(artifact) as detector:
        predict_sources(detector, PredictPlan([record.path for record in test.records[:IMAGES]], conf=0.5, out=images))
    say("5/5 measure")
    measured = bench_models([BenchPlan(str(artifact), batch=1, source=str(test.records[0].path), seconds=2.0)])
    assert exported.page_path is not None
    return DemoResult(
        ap=metrics["AP"] or 0.0,
        ap50=metrics["AP50"] or 0.0,
        method=method,
        seconds=round(time.perf_counter() - started, 1),
        receipt=exported.verdict,
        latency_ms=round(measured.results[0].stages.total.p50_ms, 2),
        artifact=artifact,
        checkpoint=checkpoint,
        data=data,
        page=exported.page_path,
        images=images,
    )

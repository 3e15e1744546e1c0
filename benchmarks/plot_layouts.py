"""Which figures of each kind of report are drawn as bars."""

from __future__ import annotations

from collections.abc import Sequence

from plots import Bars
from report import Report

PLOTS: dict[str, Sequence[Bars]] = {
    "latency": (
        Bars("whole way, median", ("model", "batch", "concurrency"), "stages.total.p50_ms", "ms per batch"),
        Bars("JPEG bytes to batch, median", ("model", "batch", "concurrency"), "input.p50_ms", "ms per batch"),
        Bars("throughput", ("model", "batch", "concurrency"), "fps", "pictures/s"),
    ),
    "memory": (Bars("peak resident memory", ("model", "batch"), "process_mib.peak", "MiB"),),
    "throughput": (Bars("time over the bare run", ("model", "work"), "ratio", "ratio", 1.0),),
    "video": (Bars("throughput over that of files", ("model",), "ratio", "ratio", 1.0),),
    "sharing": (Bars("growth of resident memory", ("model", "clients"), "growth_mib", "MiB"),),
    "compare": (Bars("times as fast as A", ("b.model",), "times_as_fast", "ratio", 1.0),),
    "ort_settings": (Bars("time over that as shipped", ("precision", "setting"), "ratio", "ratio", 1.0),),
    "plain": (Bars("times as fast as the plain way", ("model", "precision"), "times_as_fast", "ratio", 1.0),),
    "serving": (Bars("share of the direct rate", ("load", "clients"), "share", "ratio", 1.0),),
    "replicas": (Bars("times one replica", ("case",), "times_one", "ratio", 1.0),),
    "accuracy": (Bars("AP", ("model", "precision"), "AP", "AP"),),
    "losses": (Bars("time over a plain focal loss", ("method", "truths_per_image"), "ratio", "ratio", 1.0),),
    "train_speed": (Bars("times as fast as plain float32", ("method",), "speedup.median", "ratio", 1.0),),
    "postprocess_cost": (Bars("share of the raw graph's time", ("post", "nms", "classes"), "cost_tail", "share"),),
    "parity": (Bars("AP of the file less AP of the model", ("method", "post"), "ap.difference", "AP"),),
    "precision": (Bars("AP of the file less AP of the model", ("method", "precision"), "ap_difference", "AP"),),
    "methods": (Bars("test AP", ("variant", "seed"), "test.AP", "AP"),),
    "papers_tables": (
        Bars("ours: pictures per second of the exported graph", ("name", "device"), "fps", "FPS"),
        Bars("theirs, on their hardware", ("name",), "theirs.fps", "FPS"),
    ),
}


def plots_of(report: Report) -> Sequence[Bars]:
    """The plots of a report."""
    return PLOTS.get(report.kind, ())

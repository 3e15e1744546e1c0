"""How the rows of each kind of report are shown: the columns of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comparison_tables
from grid import Column, Grid, interval, make_grid
from report import Report

from aweigh.runtime.errors import BadInput

_SETTINGS = (Column("precision", "precision"), Column("batch", "batch"), Column("threads", "threads"))
_QUIET = Column("quiet", "conditions.quiet")


def _stage(name: str) -> Column:
    path = f"stages.{name}" if name not in ("input", "overhead") else name
    return Column(f"{name} ms", lambda row: _percentiles(row, path))


def _percentiles(row: Mapping[str, Any], path: str) -> str:
    value: Any = row
    for key in path.split("."):
        value = value[key]
    return "{p50_ms:.2f} / {p90_ms:.2f} / {p99_ms:.2f}".format(**value)


def _theirs(key: str, form: str) -> Column:
    return Column(f"theirs: {key}", f"theirs.{key}", form)


COLUMNS: dict[str, dict[str, Sequence[Column]]] = {
    "latency": {
        "milliseconds per batch, p50 / p90 / p99": (
            Column("model", "model"),
            *_SETTINGS,
            Column("clients", "concurrency"),
            *(_stage(name) for name in ("network", "total", "overhead")),
            Column("GPU clock ms", "network_device.p50_ms", ".2f"),
            Column("pictures/s", "fps", ".1f"),
            _QUIET,
        ),
        "beside the network, milliseconds per batch, p50 / p90 / p99": (
            Column("model", "model"),
            *_SETTINGS,
            Column("clients", "concurrency"),
            *(_stage(name) for name in ("input", "decode", "preprocess", "unmap")),
        ),
        "start, in a fresh process": (
            Column("model", "model"),
            *_SETTINGS,
            Column("import ms", "cold_start.import_ms", ".0f"),
            Column("open ms", "cold_start.open_ms", ".0f"),
            Column("first batch ms", "cold_start.first_ms", ".1f"),
            Column("total ms", "cold_start.total_ms", ".0f"),
            Column("further batches ms", lambda row: ", ".join(f"{ms:.1f}" for ms in row["warmup_ms"][:5])),
        ),
        "the machine meanwhile": (
            Column("model", "model"),
            Column("batch", "batch"),
            Column("clients", "concurrency"),
            _QUIET,
            Column("stolen", "conditions.stolen_share", ".1%"),
            Column("others", "conditions.others_share", ".1%"),
            Column("throttled ms", "conditions.throttled_ms", ".0f"),
            Column("thermal events", "conditions.thermal_events"),
            Column("MHz", lambda row: " to ".join("-" if m is None else f"{m:.0f}" for m in row["conditions"]["mhz"])),
        ),
    },
    "memory": {
        "MiB of a process": (
            Column("model", "model"),
            *_SETTINGS,
            Column("file", "file_mib", ".1f"),
            *(
                Column(name, f"process_mib.{name}", ".0f")
                for name in ("libraries", "network", "activations", "end", "peak")
            ),
        ),
        "bytes of the device": (
            Column("model", "model"),
            *(Column(name, f"device_bytes.{name}") for name in ("weights", "scratch", "buffers", "pinned_host")),
        ),
    },
    "throughput": {
        "whole way against the bare run": (
            Column("model", "model"),
            *_SETTINGS,
            Column("work", "work"),
            Column("pictures/s", "pictures_per_s", ".1f"),
            Column("bare/s", "bare_pictures_per_s", ".1f"),
            Column("time over bare", interval("ratio")),
            Column("extra ms per picture", interval("extra_ms_per_picture", ".2f")),
            _QUIET,
        )
    },
    "video": {
        "video against its frames as files": (
            Column("model", "model"),
            Column("frames", "frames"),
            Column("frames/s", "frames_per_s", ".1f"),
            Column("files/s", "files_per_s", ".1f"),
            Column("throughput over files'", interval("ratio")),
            Column("growth MiB", "growth_mib", ".1f"),
            Column("checked", "checked"),
            Column("out of order", "out_of_order"),
            Column("like the next", "like_the_next"),
            _QUIET,
        )
    },
    "sharing": {
        "threads that share one Detector": (
            Column("model", "model"),
            Column("clients", "clients"),
            Column("calls", "calls"),
            Column("differing", "differing"),
            Column("detections", "detections"),
            Column("growth MiB", "growth_mib", ".1f"),
            Column("calls/s", "calls_per_s", ".1f"),
            _QUIET,
        )
    },
    "compare": {
        "in turns": (
            Column("A", "a.model"),
            Column("B", "b.model"),
            Column("A ms", "a_ms", ".2f"),
            Column("B ms", "b_ms", ".2f"),
            Column("times as fast as A", interval("times_as_fast")),
            Column("confidence", "times_as_fast.confidence", ".1%"),
            Column("rounds", "rounds"),
            _QUIET,
        )
    },
    "ort_settings": {
        "settings of ONNX Runtime, peaks in MB": (
            Column("model", "model"),
            *_SETTINGS,
            Column("setting", "setting"),
            Column("peak", "memory_mb.peak", ".0f"),
            Column("callers at once", "memory_mb.peak_of_callers", ".0f"),
            Column("after them", "memory_mb.after_callers", ".0f"),
            Column("ms", "latency_ms", ".1f"),
            Column("time over that as shipped", interval("ratio")),
            _QUIET,
        )
    },
    "plain": {
        "the plain way and ours, ms per picture": (
            Column("model", "model"),
            *_SETTINGS,
            Column("pictures", "pictures"),
            Column("candidates", "candidates_per_picture", ".0f"),
            Column("calls", "calls"),
            Column("plain ms", "plain_ms", ".1f"),
            Column("ours ms", "ours_ms", ".1f"),
            Column("times as fast", interval("times_as_fast")),
            Column("same detections", "agrees"),
            _QUIET,
        )
    },
    "serving": {
        "the server beside the Detector": (
            Column("model", "model"),
            *_SETTINGS[::2],
            Column("load", "load"),
            Column("clients", "clients"),
            *(Column(f"p{q} ms", f"p{q}_ms", ".1f") for q in (50, 95, 99)),
            Column("pictures/s", "per_s", ".1f"),
            Column("share of the direct rate", interval("share")),
            Column("p50 over the Detector's ms", interval("added_p50_ms")),
            Column("statuses", lambda row: ", ".join(f"{n} x {s}" for s, n in row.get("statuses", {}).items())),
            Column("resident MB", lambda row: " ".join(f"{mb:.0f}" for mb in row.get("resident_mb", ()))),
        )
    },
    "replicas": {
        "replicas under Ray Serve": (
            Column("case", "case"),
            Column("clients", "clients"),
            Column("network ms", "network_ms", ".0f"),
            Column("pictures/s", "per_s", ".1f"),
            Column("times one replica", interval("times_one")),
            Column("answered by each", lambda row: ", ".join(f"{n:.0f}" for n in row.get("answered", ()))),
        )
    },
    "accuracy": {
        "average precision of the file": (
            Column("model", "model"),
            Column("sha256", lambda row: row["sha256"][:12]),
            Column("precision", "precision"),
            Column("split", "split"),
            Column("pictures", "images"),
            *(Column(name, name, ".4f") for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")),
            Column("timed in", lambda row: ", ".join(row["timed"]) or "-"),
        )
    },
    "losses": {
        "loss against a plain focal loss": (
            Column("method", "method"),
            Column("objects per picture", "truths_per_image"),
            Column("ms", "loss_ms", ".1f"),
            Column("plain ms", "plain_focal_ms", ".1f"),
            Column("ratio", lambda row: _spread_of(row, "ratio", "ratio_quartiles")),
            Column("extra memory, logits", "peak_extra_in_logits", ".1f"),
        )
    },
    "train_speed": {
        "a training step": (
            Column("method", "method"),
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
    },
    "postprocess_cost": {
        "post-processing, share of the raw graph": (
            Column("post", lambda row: f"{row['post']} {row['nms'] or ''}".strip()),
            Column("classes", "classes"),
            Column("raw ms", "raw_ms.median", ".1f"),
            Column("tail ms", "tail_ms.median", ".2f"),
            Column("tail", "cost_tail", ".2%"),
            Column("medians", "cost_median", "+.2%"),
            Column("minima", "cost_min", "+.2%"),
            Column("pairs", lambda row: "{median:+.2%} ({q25:+.2%} to {q75:+.2%})".format(**row["cost_pairs"])),
            Column("profiler, raw", "profiler_share.raw", ".2%"),
            Column("profiler", "profiler_share.post", ".2%"),
            Column("found", "detections"),
        )
    },
    "parity": {
        "trained model and exported file": (
            Column("method", "method"),
            Column("post-processing", "post"),
            Column("verdict", "verdict"),
            Column("detections", "detections"),
            Column("differing", "differing"),
            Column("farthest move px", "max_moved_px", ".1e"),
            Column("score error", "max_score_error", ".1e"),
            Column("largest error of a tensor", "largest_stage_error.relative", ".1e"),
            Column("AP trained", "ap.trained", ".4f"),
            Column("AP difference", "ap.difference", "+.4f"),
        ),
    },
    "precision": {
        "AP of the trained model and of the exported file": (
            Column("method", "method"),
            Column("precision", "precision"),
            Column("split", "split"),
            Column("pictures", "images"),
            Column("AP trained", "trained.AP", ".4f"),
            Column("AP exported", "exported.AP", ".4f"),
            Column("difference", "ap_difference", "+.4f"),
            Column("receipt", "verdict"),
        )
    },
    "papers_tables": {
        "ours here, theirs on their hardware": (
            Column("row", "name"),
            Column("device", lambda row: row.get("device") or row["not_built"]),
            Column("forward ms", "forward_ms", ".1f"),
            Column("NMS ms", "nms_ms", ".2f"),
            Column("FPS", "fps", ".1f"),
            Column("GB", "memory_gb", ".2f"),
            Column("GB of the GPU", "device_gb", ".2f"),
            Column("eager forward ms", "eager.forward_ms", ".1f"),
            Column("by events", "eager.forward_events_ms", ".1f"),
            Column("eager NMS ms", "eager.nms_ms", ".2f"),
            Column("by events ", "eager.nms_events_ms", ".2f"),
            _theirs("forward_ms", ".1f"),
            _theirs("nms_ms", ".1f"),
            _theirs("fps", ".1f"),
            _theirs("memory_gb", ".1f"),
            Column("not run", "not_run"),
        )
    },
}


def grids_of(report: Report) -> list[Grid]:
    """The tables of a report; those that have nothing but names are left out. Raises BadInput for an unknown kind."""
    if report.kind == "methods":
        return comparison_tables.grids(report.about)
    if report.kind not in COLUMNS:
        raise BadInput(f"kind {report.kind!r}: expected one of {', '.join(sorted([*COLUMNS, 'methods']))}")
    grids = [make_grid(title, columns, report.rows) for title, columns in COLUMNS[report.kind].items()]
    return [grid for grid in grids if len(grid.header) > 1]


def _spread_of(row: Mapping[str, Any], middle: str, spread: str) -> str:
    low, high = row[spread]
    return f"{row[middle]:.2f} ({low:.2f} to {high:.2f})"

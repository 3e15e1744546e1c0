"""What post-processing inside the graph costs, as a share of the network.

    python benchmarks/postprocess_cost.py [--rounds 40] [--threads 2] [--batches 1,8] \\
        [--backends onnxruntime,openvino] [--device cuda] --out benchmarks/results/postprocess_cost.json

Each graph is compared with one that stops at boxes and scores of all points (``--post raw``): same weights, 640x640,
ResNet-18 with pyramid and head of 128 channels, by default one image, ONNX Runtime on the CPU. The two take turns, so
that whatever else the machine does falls on both. Weights are random, with an output layer that yields hundreds of
candidates above the threshold: a trained detector, whose images hold fewer, pays no more.

The numbers per case, all relative to the raw graph's median:
- tail: the nodes behind boxes and scores of all points, cut out and run alone, in the same turns. The verdict is on it,
  for a tail of one millisecond cannot be distinguished from the noise of a network of 200;
- medians, minima, pairs: difference of the medians, of the minima, and of neighbouring runs with its quartiles;
- profiler: what ONNX Runtime counts behind the last convolution, in the raw graph and in this one (decoding included);
  0 for OpenVINO.

On a GPU boxes and scores of all points lie in its memory before the tail runs, as they do inside a whole graph; the
medians hold their way to the host, which the raw graph's outputs take, and are no verdict there.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import openvino

from aweigh.export.graph.traced import STAGE_PREFIX
from aweigh.export.to_onnx import export_onnx
from aweigh.runtime.backends.base import Backend
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.backends.onnxruntime_session import providers_of
from aweigh.runtime.backends.openvino import OpenVinoBackend
from aweigh.runtime.bench.post_share import post_share
from aweigh.runtime.cli.numbers import parse_counts
from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category, InputSpec, ModelSpec, PostSpec
from aweigh.train.models.detector import DenseDetector
from support.paired import in_turns
from support.reports.grid import Column
from support.reports.layout import Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report
from support.reports.script import make_parser, public_command, publish, run
from support.untrained import crowded_detector

SIZE_HW = (640, 640)
LIMIT = 0.03
PostKind: TypeAlias = Literal["nms", "none", "raw"]
NmsForm: TypeAlias = Literal["onnx", "matrix"] | None
Run: TypeAlias = Callable[[], Any]
CASES: list[tuple[int, PostKind, NmsForm]] = [
    (3, "nms", "onnx"),
    (80, "nms", "onnx"),
    (3, "nms", "matrix"),
    (80, "nms", "matrix"),
    (80, "none", None),
]


LAYOUT = Layout(
    tables(
        {
            "post-processing, share of the raw graph": (
                Column("post", lambda row: f"{row['post']} {row['nms'] or ''}".strip()),
                Column("classes", "classes"),
                Column("batch", lambda row: str(row.get("batch", 1))),
                Column("back end", lambda row: row.get("backend", "onnxruntime")),
                Column("device", lambda row: row.get("device", "cpu")),
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
        }
    ),
    plots=(Bars("share of the raw graph's time", ("post", "nms", "classes"), "cost_tail", "share"),),
)


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", default="1", help="with commas between")
    parser.add_argument("--backends", default="onnxruntime", help="of onnxruntime, openvino; with commas between")
    parser.add_argument("--method", default="fcos", choices=("fcos", "dw"))
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    options = parser.parse_args(arguments)
    batches, backends = parse_counts(options.batches, "--batches"), options.backends.split(",")
    if unknown := set(backends) - BACKENDS.keys():
        raise BadInput(f"--backends {options.backends!r}: no {', '.join(unknown)}; there are {', '.join(BACKENDS)}")
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure(case, batch, backend, options, Path(folder))
            for backend in backends
            for batch in batches
            for case in CASES
        ]
    what = "time of a batch at 640x640, ResNet-18; cost relative to the same graph with --post raw"
    command = public_command("postprocess_cost.py", arguments)
    publish(Report.here("postprocess_cost", what, rows, command, {"limit": LIMIT}), LAYOUT, options)
    judged = [
        row
        for row in rows
        if (row["batch"], row["backend"], row["device"]) == (1, "onnxruntime", "cpu") and row["nms"] is not None
    ]
    return 0 if all(row["cost_tail"] <= LIMIT for row in judged) else 1


def measure(
    case: tuple[int, PostKind, NmsForm], batch: int, backend: str, arguments: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    classes, kind, form = case
    detector = crowded_detector("r18", arguments.method, classes, InputSpec(SIZE_HW))
    image_u8 = np.random.default_rng(0).integers(0, 256, (batch, *SIZE_HW, 3), dtype=np.uint8)
    sessions, paths = {}, {}
    posts: dict[str, tuple[PostKind, NmsForm]] = {"raw": ("raw", None), "post": (kind, form)}
    for name, post in posts.items():
        paths[name] = folder / f"{classes}-{kind}-{form}-{name}-{batch}.onnx"
        write(detector, arguments.method, classes, post, batch, paths[name])
        sessions[name] = BACKENDS[backend](paths[name], arguments.device, threads=arguments.threads)
    found = sessions["post"].infer(image_u8)
    dense = sessions["raw"].infer(image_u8)
    feeds = {STAGE_PREFIX + name: value for name, value in dense.items()}
    tail = TAILS[backend](tail_alone(paths["post"]), arguments.threads, arguments.device, feeds)
    times_ms = in_turns(
        {
            "raw": lambda: sessions["raw"].infer(image_u8),
            "post": lambda: sessions["post"].infer(image_u8),
            "tail": tail,
        },
        arguments.rounds,
    )
    raw_ms, post_ms, tail_ms = (np.array(taken) for taken in times_ms.values())
    pairs = (post_ms - raw_ms) / np.median(raw_ms)
    low, middle, high = np.quantile(pairs, [0.25, 0.5, 0.75])
    shares = [0.0, 0.0]
    if backend == "onnxruntime":
        where = (arguments.device, arguments.threads)
        shares = [post_share(paths[n], *where, image_u8, 5, folder) or 0.0 for n in ("raw", "post")]
    return {
        "classes": classes,
        "post": kind,
        "nms": form,
        "batch": batch,
        "backend": backend,
        "device": arguments.device,
        "candidates_above_threshold": int((dense["scores"] > PostSpec("nms").score_threshold).sum()),
        "detections": int(found["num_dets"][0]),
        "raw_ms": {"median": float(np.median(raw_ms)), "min": float(raw_ms.min())},
        "post_ms": {"median": float(np.median(post_ms)), "min": float(post_ms.min())},
        "tail_ms": {"median": float(np.median(tail_ms)), "min": float(tail_ms.min()), "max": float(tail_ms.max())},
        "cost_tail": float(np.median(tail_ms) / np.median(raw_ms)),
        "cost_median": float(np.median(post_ms) / np.median(raw_ms) - 1),
        "cost_min": float(post_ms.min() / raw_ms.min() - 1),
        "cost_pairs": {"q25": float(low), "median": float(middle), "q75": float(high)},
        "profiler_share": {"raw": shares[0], "post": shares[1]},
        "rounds": arguments.rounds,
        "threads": arguments.threads,
    }


def tail_alone(path: Path) -> bytes:
    """The nodes behind boxes and scores of all points, a graph of their own."""
    model = ir.from_proto(onnx.load(path))
    names = [STAGE_PREFIX + "boxes", STAGE_PREFIX + "scores"]
    model.graph = ir.convenience.extract(model.graph, names, list(model.graph.outputs))
    return ir.to_proto(model).SerializeToString()


def onnxruntime_tail(content: bytes, threads: int, device: str, feeds: Mapping[str, Any]) -> Run:
    """On inputs that lie in the device's memory."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as the runtime does
    where = Device.parse(device)
    session = onnxruntime.InferenceSession(content, settings, providers=providers_of(where, tensorrt=False))
    binding = session.io_binding()
    for name, value in feeds.items():
        held = onnxruntime.OrtValue.ortvalue_from_numpy(value, where.kind, where.number)
        binding.bind_ortvalue_input(name, held)
    for port in session.get_outputs():
        binding.bind_output(port.name)
    return lambda: session.run_with_iobinding(binding)


def openvino_tail(content: bytes, threads: int, device: str, feeds: Mapping[str, Any]) -> Run:
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(content)), device.upper(), settings)
    request = compiled.create_infer_request()
    return lambda: request.infer(feeds, share_inputs=True)


BACKENDS: dict[str, Callable[..., Backend]] = {"onnxruntime": OnnxRuntimeBackend, "openvino": OpenVinoBackend}
TAILS: dict[str, Callable[[bytes, int, str, Mapping[str, Any]], Run]] = {
    "onnxruntime": onnxruntime_tail,
    "openvino": openvino_tail,
}


def write(
    detector: DenseDetector, method: str, classes: int, post: tuple[PostKind, NmsForm], batch: int, path: Path
) -> None:
    kind, form = post
    own = replace(detector.method.post(), kind=kind, nms_form=form)
    categories = tuple(Category(i + 1, f"class {i + 1}") for i in range(classes))
    export_onnx(detector, ModelSpec(method, "r18", categories, InputSpec(SIZE_HW), own, batch=(batch, batch)), path)


if __name__ == "__main__":
    sys.exit(run("postprocess_cost.py", main))

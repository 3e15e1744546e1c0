"""The flags of ``aweigh export`` and ``aweigh verify``, and which of them go with what."""

from __future__ import annotations

import argparse
from pathlib import Path

from aweigh.runtime.cli.numbers import add_tolerances
from aweigh.runtime.cli.parsing import add_outside_images
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.flavours import DEFAULT_GENERATIONS, FLAVOURS, GENERATIONS
from aweigh.runtime.precision import PRECISIONS
from aweigh.train.cli.match_names import add_match_names

# Precisions that TensorRT has and no export: why.
NOT_OFFERED = {
    "fp8": "is not offered, for ONNX Runtime 1.31 leaves out a relu before FP8 rounding and would compute other boxes "
    "(docs/tensorrt.md); take fp16, or int8 for half its bytes"
}
FORMATS = ("onnx", "engine", "torch-trt", "triton", "web")
BATCH = "1-8"
_IMAGES = 6
# Flags that change the graph, and so need a checkpoint: name of the argument, and its value when not given.
GRAPH_FLAGS = {
    "precision": None,
    "batch": None,
    "imgsz": None,
    "dynamic_size": False,
    "post": "auto",
    "nms": None,
    "conf": None,
    "iou": None,
    "agnostic": False,
    "top_k": None,
    "max_det": None,
    "data": None,
    "keep_high": None,
    "calib": None,
    "int8_encoding": None,
    "bisect": False,
}
ENGINE_FLAGS = (
    "opt_batch",
    "workspace_gb",
    "builder_level",
    "timing_cache",
    "version_compatible",
    "hardware_compatible",
    "device",
    "flavour",
    "gpus",
)


def add_export(export: argparse.ArgumentParser) -> None:
    """All flags of ``aweigh export``."""
    export.add_argument(
        "--model",
        required=True,
        type=Path,
        help="checkpoint (.pt); for --format engine, triton and web an ONNX file (.onnx) as well",
    )
    export.add_argument("--format", default="onnx", help=", ".join(FORMATS) + " (default %(default)s)")
    export.add_argument(
        "--precision",
        choices=(*PRECISIONS[::-1], *NOT_OFFERED),
        metavar=f"{{{','.join(PRECISIONS[::-1])}}}",
        help="of the network, without decoding and NMS (default fp32)",
    )
    _add_precision(export)
    export.add_argument("--batch", help=f"images at once: N, or a range A-B (default {BATCH})")
    export.add_argument("--imgsz", help="N or HxW; default: as trained")
    export.add_argument("--dynamic-size", action="store_true", help="take other heights and widths, multiples of 32")
    export.add_argument(
        "--post", default="auto", choices=("auto", "nms", "vote", "none", "raw"), help="auto: the method's own"
    )
    export.add_argument(
        "--nms",
        choices=("onnx", "matrix"),
        help="form of NMS in the graph (default matrix, which also builds as an engine)",
    )
    export.add_argument("--conf", type=float, help="score threshold, 0 to 1; a floor for all later use")
    export.add_argument("--iou", type=float, help="IoU threshold of NMS, 0 to 1")
    export.add_argument(
        "--agnostic", action="store_true", help="a box is suppressed by a better one of any class: one label an object"
    )
    export.add_argument(
        "--top-k", type=int, help="candidates before NMS; at most 3840 with --nms matrix (default 1000)"
    )
    export.add_argument("--max-det", type=int, help="rows of the output")
    export.add_argument(
        "--out", type=Path, help="default: the model's name with .onnx or .engine; triton, web: a folder next to it"
    )
    export.add_argument(
        "--ort-web",
        type=Path,
        metavar="DIR",
        help="for --format web: a folder of the package onnxruntime-web; default: npm fetches it",
    )
    export.add_argument("--golden", type=int, default=2, help="images kept in the file for its self-test, 0 to 6")
    export.add_argument("--no-verify", action="store_true", help="write no receipt")
    add_comparison(export)
    engine = export.add_argument_group("TensorRT engines (--format engine, torch-trt)")
    engine.add_argument(
        "--flavour",
        choices=tuple(FLAVOURS),
        help="library: tensorrt (default), for the GPU at hand; rtx, TensorRT for RTX: built on any machine",
    )
    engine.add_argument(
        "--gpus",
        metavar="NAME,NAME",
        help=f"flavour rtx: GPUs that it is for, of {', '.join(GENERATIONS)}; default {','.join(DEFAULT_GENERATIONS)}",
    )
    engine.add_argument(
        "--opt-batch", metavar="N,N", help="batches to be fast at, a profile for each; default: the largest"
    )
    engine.add_argument("--workspace-gb", type=float, metavar="X", help="scratch memory, 10^9 bytes; default: no limit")
    engine.add_argument("--builder-level", type=int, metavar="0..5", help="effort of the build (default 3)")
    engine.add_argument("--timing-cache", type=Path, metavar="FILE", help="measurements, used again by the next build")
    engine.add_argument(
        "--version-compatible", action="store_const", const=True, help="for newer TensorRT of the same major number"
    )
    engine.add_argument(
        "--hardware-compatible",
        nargs="?",
        choices=("same-capability", "ampere-plus"),
        const="same-capability",
        help="for other GPUs of the same compute capability (the default value), or from Ampere on; slower",
    )
    engine.add_argument("--device", help="GPU that builds: cuda (default) or cuda:N")


def _add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep-high", help="layers that stay in FP32: NAME[,NAME], folders of layers too")
    parser.add_argument("--calib", type=int, help="int8: images of the split train to measure ranges on; default 64")
    parser.add_argument(
        "--int8-encoding",
        choices=("onnxruntime", "tensorrt"),
        help="uint8, or int8 around 0",
    )
    parser.add_argument("--bisect", action="store_true", help="search for the layer that breaks in the precision")


def add_verify(verify: argparse.ArgumentParser) -> None:
    """All flags of ``aweigh verify``."""
    verify.add_argument("--model", required=True, type=Path, help="checkpoint, ONNX file or engine")
    verify.add_argument("--against", required=True, type=Path, help="what it came from, or another file from there")
    verify.add_argument(
        "--out", type=Path, metavar="FILE.json", help="the receipt, its page next to it; default: next to the model"
    )
    verify.add_argument(
        "--batches", metavar="N,N", help="in batches of these sizes (default 1 and 3 if both take them)"
    )
    verify.add_argument(
        "--build",
        nargs="?",
        const="rtx",
        choices=tuple(FLAVOURS),
        help="also parse, audit and build an ONNX file with the real library: rtx (the default value), or tensorrt",
    )
    verify.add_argument("--device", help="runs --model: cpu, cuda or cuda:N (default cpu, for an engine cuda)")
    add_comparison(verify)


def add_comparison(parser: argparse.ArgumentParser) -> None:
    """What a receipt is made on, and held against."""
    add_tolerances(parser)
    parser.add_argument("--data", help="compare on these images, and the AP of both; default: generated images")
    parser.add_argument("--split", default="val", help="split of the data set (default %(default)s)")
    add_match_names(parser)
    add_outside_images(parser)
    parser.add_argument("--pictures", type=int, metavar="N", help="compare detections on N images (default 6)")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="equality: fail on a better AP and on a single score too (default: AP may not fall by more than chance, "
        "one score of a hundred may change)",
    )
    parser.add_argument("--threads", type=int, help="of ONNX Runtime; default: all cores")
    parser.add_argument("--force", action="store_true", help="go on where the command would refuse with a reason")


def add_demo(demo: argparse.ArgumentParser) -> None:
    """All flags of ``aweigh demo``."""
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder to be made (default %(default)s)")
    demo.add_argument("--method", default="dw", help="label assignment (default %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="seed of the data and of the training (default %(default)s)")
    demo.add_argument("--threads", type=int, default=0, help="of the training; 0 tries what helps")


def compared_images(arguments: argparse.Namespace) -> int:
    """How many images detections are compared on, 6 by default. Raises BadInput below 1."""
    if arguments.pictures is None:
        return _IMAGES
    if arguments.pictures < 1:
        raise BadInput(f"--pictures {arguments.pictures}: expected at least 1")
    return int(arguments.pictures)

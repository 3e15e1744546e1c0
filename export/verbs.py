"""The verbs of the export stage: export, verify, demo.

torch and onnx are imported by the verbs, not here: every ``aweigh`` command loads this module.
"""

from __future__ import annotations

import argparse
import re
from importlib.util import find_spec
from pathlib import Path

from aweigh.runtime.cli import Verbs, emit_json, parse_size
from aweigh.runtime.errors import BadInput

_LATER = ("engine", "torch-trt", "triton")
_TOLERANCES = {
    "ap": "difference of AP",
    "score": "difference of two scores",
    "share": "part of the detections that may differ",
    "moved_px": "how far a box may move",
    "stage": "error of a tensor, relative to its largest value",
}


def register(verbs: Verbs) -> None:
    """Raises ModuleNotFoundError where the stage's extra is not installed."""
    for module in ("torch", "lightning_fabric", "pycocotools", "onnx", "onnxscript", "onnxruntime", "jinja2"):
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    export = verbs.add("export", _export)
    export.add_argument("--model", required=True, type=Path, help="checkpoint written by aweigh train")
    export.add_argument("--format", default="onnx", help="onnx")
    export.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "bf16", "int8"))
    _add_precision(export)
    export.add_argument("--batch", default="1-8", help="pictures at once: N, or a range A-B (default %(default)s)")
    export.add_argument("--imgsz", help="N or HxW; default: as trained")
    export.add_argument("--dynamic-size", action="store_true", help="take other heights and widths, multiples of 32")
    export.add_argument(
        "--post", default="auto", choices=("auto", "nms", "vote", "none", "raw"), help="auto: the method's own"
    )
    export.add_argument("--nms", choices=("onnx", "matrix"), help="form of NMS in the graph; default onnx")
    export.add_argument("--conf", type=float, help="score threshold, 0 to 1; a floor for all later use")
    export.add_argument("--iou", type=float, help="IoU threshold of NMS, 0 to 1")
    export.add_argument("--max-det", type=int, help="rows of the output")
    export.add_argument("--out", type=Path, help="default: the checkpoint's name with .onnx")
    export.add_argument("--golden", type=int, default=2, help="pictures kept in the file for its self-test, 0 to 6")
    export.add_argument("--no-verify", action="store_true", help="write no receipt")
    _add_comparison(export)
    verify = verbs.add("verify", _verify)
    verify.add_argument("--model", required=True, type=Path, help="exported file")
    verify.add_argument("--against", required=True, type=Path, help="the checkpoint it came from")
    _add_comparison(verify)
    demo = verbs.add("demo", _demo)
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder to be made (default %(default)s)")
    demo.add_argument("--method", default="dw", help="label assignment (default %(default)s)")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--threads", type=int, default=0, help="of the training; 0 tries what helps")


def _add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep-high", help="layers that stay in FP32: NAME[,NAME], folders of layers too")
    parser.add_argument("--calib", type=int, help="int8: pictures of the split train to measure ranges on; default 64")
    parser.add_argument(
        "--int8-encoding", choices=("onnxruntime", "tensorrt"), help="uint8 around 128, or int8 around 0"
    )
    parser.add_argument("--bisect", action="store_true", help="search the layer that breaks in the precision")


def _add_comparison(parser: argparse.ArgumentParser) -> None:
    for name, what in _TOLERANCES.items():
        parser.add_argument(f"--tol-{name.replace('_', '-')}", type=float, help=f"instead of the precision's: {what}")
    parser.add_argument("--data", help="compare on these pictures, and the AP of both; default: generated pictures")
    parser.add_argument("--split", default="val")
    parser.add_argument("--threads", type=int, help="of ONNX Runtime; default: all cores")
    parser.add_argument("--force", action="store_true", help="go on where the command would rather not")


def _export(arguments: argparse.Namespace) -> int:
    if arguments.format in _LATER:
        raise BadInput(f"--format {arguments.format}: comes with a later version; this one writes onnx")
    if arguments.format != "onnx":
        raise BadInput(f"--format {arguments.format!r}: expected onnx")
    batch = parse_batch(arguments.batch)
    size_hw = parse_size(arguments.imgsz) if arguments.imgsz else None
    from aweigh.export.job import ExportOptions, run_export

    options = ExportOptions(
        batch=batch,
        size_hw=size_hw,
        dynamic_size=arguments.dynamic_size,
        precision=arguments.precision,
        post=arguments.post,
        nms=arguments.nms,
        conf=arguments.conf,
        iou=arguments.iou,
        max_det=arguments.max_det,
        golden=arguments.golden,
        data=arguments.data,
        split=arguments.split,
        verify=not arguments.no_verify,
        force=arguments.force,
        threads=arguments.threads,
        keep_high=tuple(filter(None, (arguments.keep_high or "").split(","))),
        calib=arguments.calib,
        encoding=arguments.int8_encoding,
        bisect=arguments.bisect,
        tolerances=_tolerances(arguments),
    )
    result = run_export(arguments.model, arguments.out, options)
    return _report(result, arguments.json)


def _verify(arguments: argparse.Namespace) -> int:
    from aweigh.export.job import run_verify

    result = run_verify(
        arguments.model,
        arguments.against,
        arguments.data,
        arguments.split,
        arguments.force,
        arguments.threads,
        _tolerances(arguments),
    )
    return _report(result, arguments.json)


def _tolerances(arguments: argparse.Namespace) -> dict[str, float]:
    given = {name: getattr(arguments, f"tol_{name}") for name in _TOLERANCES}
    return {name: value for name, value in given.items() if value is not None}


def _demo(arguments: argparse.Namespace) -> int:
    from aweigh.export.demo import print_demo, run_demo

    result = run_demo(arguments.out, arguments.method, arguments.seed, arguments.threads)
    if arguments.json:
        emit_json(result)
    else:
        print_demo(result)
    return 0 if result["receipt"] == "passed" else 1


def _report(result: dict[str, object], as_json: bool) -> int:
    if as_json:
        emit_json(result)
    else:
        from aweigh.export.job import print_result

        print_result(result)
    return 1 if result["verdict"] == "failed" else 0


def parse_batch(text: str) -> tuple[int, int]:
    """``4`` or ``1-8`` as (smallest, largest). Raises BadInput."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2] or match[1]):
        raise BadInput(f"--batch {text!r}: expected a number or a range, 4 or 1-8")
    return int(match[1]), int(match[2] or match[1])

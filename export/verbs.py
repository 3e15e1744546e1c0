"""The verbs of the export stage: export, verify, demo.

torch and onnx are imported by the verbs, not here: every ``aweigh`` command loads this module. An engine is built from
an ONNX file without them, on the machine that is to run it.
"""

from __future__ import annotations

import argparse
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from aweigh.runtime.cli import Verbs, emit_json, parse_size
from aweigh.runtime.engine_file import is_engine
from aweigh.runtime.errors import BadInput

if TYPE_CHECKING:
    from aweigh.export.job import ExportOptions
    from aweigh.export.to_engine import EngineOptions

_FORMATS = ("onnx", "engine", "torch-trt")
_LATER = ("triton",)
_STAGE_MODULES = ("torch", "lightning_fabric", "pycocotools", "onnx", "onnxscript", "onnxruntime", "jinja2")
_BATCH = "1-8"
# Flags that change the graph, and so go with a checkpoint alone: name of the argument and what it is when not given.
_GRAPH_FLAGS = {
    "precision": None,
    "batch": None,
    "imgsz": None,
    "dynamic_size": False,
    "post": "auto",
    "nms": None,
    "conf": None,
    "iou": None,
    "max_det": None,
    "data": None,
    "keep_high": None,
    "calib": None,
    "int8_encoding": None,
    "bisect": False,
}
_TOLERANCES = {
    "ap": "difference of AP",
    "score": "difference of two scores",
    "share": "part of the detections that may differ",
    "moved_px": "how far a box may move",
    "stage": "error of a tensor, relative to its largest value",
}
_ENGINE_FLAGS = (
    "opt_batch",
    "workspace_gb",
    "builder_level",
    "timing_cache",
    "version_compatible",
    "hardware_compatible",
    "device",
)


def register(verbs: Verbs) -> None:
    """Raises ModuleNotFoundError where the stage's extra is not installed; ``export`` is there all the same."""
    _register_export(verbs)
    _require_stage()
    verify = verbs.add("verify", _verify)
    verify.add_argument("--model", required=True, type=Path, help="exported file")
    verify.add_argument("--against", required=True, type=Path, help="the checkpoint it came from")
    _add_comparison(verify)
    demo = verbs.add("demo", _demo)
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder to be made (default %(default)s)")
    demo.add_argument("--method", default="dw", help="label assignment (default %(default)s)")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--threads", type=int, default=0, help="of the training; 0 tries what helps")


def _require_stage() -> None:
    for module in _STAGE_MODULES:
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def _register_export(verbs: Verbs) -> None:
    export = verbs.add("export", _export)
    export.add_argument(
        "--model", required=True, type=Path, help="checkpoint (.pt); for --format engine an ONNX file (.onnx) as well"
    )
    export.add_argument("--format", default="onnx", help=", ".join(_FORMATS) + " (default %(default)s)")
    export.add_argument("--precision", choices=("fp32", "fp16", "bf16", "int8"), help="of the trunk (default fp32)")
    _add_precision(export)
    export.add_argument("--batch", help=f"pictures at once: N, or a range A-B (default {_BATCH})")
    export.add_argument("--imgsz", help="N or HxW; default: as trained")
    export.add_argument("--dynamic-size", action="store_true", help="take other heights and widths, multiples of 32")
    export.add_argument(
        "--post", default="auto", choices=("auto", "nms", "vote", "none", "raw"), help="auto: the method's own"
    )
    export.add_argument(
        "--nms", choices=("onnx", "matrix"), help="form of NMS in the graph; default onnx, for engines matrix"
    )
    export.add_argument("--conf", type=float, help="score threshold, 0 to 1; a floor for all later use")
    export.add_argument("--iou", type=float, help="IoU threshold of NMS, 0 to 1")
    export.add_argument("--max-det", type=int, help="rows of the output")
    export.add_argument("--out", type=Path, help="default: the model's name with .onnx or .engine")
    export.add_argument("--golden", type=int, default=2, help="pictures kept in the file for its self-test, 0 to 6")
    export.add_argument("--no-verify", action="store_true", help="write no receipt")
    _add_comparison(export)
    engine = export.add_argument_group("TensorRT engines (--format engine, torch-trt)")
    engine.add_argument(
        "--opt-batch", metavar="N,N", help="batches to be fast at, a profile for each; default: the largest"
    )
    engine.add_argument("--workspace-gb", type=float, metavar="X", help="scratch memory, 10^9 bytes; default: no limit")
    engine.add_argument("--builder-level", type=int, metavar="0..5", help="effort of the build (default 3)")
    engine.add_argument("--timing-cache", type=Path, metavar="FILE", help="measurements, taken along to the next build")
    engine.add_argument(
        "--version-compatible", action="store_const", const=True, help="for newer TensorRT of the same major number"
    )
    engine.add_argument(
        "--hardware-compatible",
        nargs="?",
        choices=("same-capability", "ampere-plus"),
        const="same-capability",
        help="for other GPUs of the same compute capability (when given alone), or from Ampere on; slower",
    )
    engine.add_argument("--device", help="GPU that builds: cuda (default) or cuda:N")


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
    if arguments.format not in _FORMATS:
        raise BadInput(f"--format {arguments.format!r}: expected onnx, engine or torch-trt")
    if arguments.format != "onnx":
        return _export_engine(arguments)
    for name in _ENGINE_FLAGS:
        if getattr(arguments, name) is not None:
            raise BadInput(f"--{name.replace('_', '-')}: goes with --format engine or torch-trt")
    options = _export_options(arguments)
    from aweigh.export.job import run_export

    return _report(run_export(arguments.model, arguments.out, options), arguments.json)


def _export_engine(arguments: argparse.Namespace) -> int:
    """An ONNX file is built without torch; a checkpoint is exported first, or goes through torch_tensorrt."""
    from aweigh.export.engine_job import check_onnx_model, print_engine, run_engine, run_engine_from_checkpoint

    options = _engine_options(arguments)
    if arguments.model.suffix == ".onnx":
        if arguments.format == "torch-trt":
            raise BadInput(
                f"--model {arguments.model} with --format torch-trt: expected a checkpoint; use --format engine"
            )
        given = {
            f"--{name.replace('_', '-')}": getattr(arguments, name)
            for name, absent in _GRAPH_FLAGS.items()
            if getattr(arguments, name) != absent
        }
        check_onnx_model(arguments.model, given)
        result = run_engine(arguments.model, arguments.out, options)
    elif arguments.format == "engine":
        result = run_engine_from_checkpoint(arguments.model, arguments.out, _export_options(arguments), options)
    else:
        export_options = _export_options(arguments)
        from aweigh.export.torch_trt import run_torch_trt

        result = run_torch_trt(arguments.model, arguments.out, export_options, options)
    if result["verdict"] != "built":  # the receipt of the ONNX file failed, and there is no engine
        return _report(result, arguments.json)
    if arguments.json:
        emit_json(result)
    else:
        print_engine(result)
    return 0


def _engine_options(arguments: argparse.Namespace) -> EngineOptions:
    from aweigh.export.profiles import parse_opt_batches
    from aweigh.export.to_engine import EngineOptions

    workspace_gb, level = arguments.workspace_gb, arguments.builder_level
    if workspace_gb is not None and not 0 < workspace_gb < 1e6:
        raise BadInput(f"--workspace-gb {workspace_gb}: expected a number above 0")
    return EngineOptions(
        opt_batches=parse_opt_batches(arguments.opt_batch) if arguments.opt_batch else (),
        workspace_bytes=None if workspace_gb is None else int(workspace_gb * 1e9),
        builder_level=3 if level is None else level,
        timing_cache=arguments.timing_cache,
        version_compatible=bool(arguments.version_compatible),
        hardware_compatible=arguments.hardware_compatible or "none",
        device=arguments.device or "cuda",
    )


def _export_options(arguments: argparse.Namespace) -> ExportOptions:
    batch = parse_batch(arguments.batch or _BATCH)
    size_hw = parse_size(arguments.imgsz) if arguments.imgsz else None
    _require_stage()
    from aweigh.export.job import ExportOptions

    return ExportOptions(
        batch=batch,
        size_hw=size_hw,
        dynamic_size=arguments.dynamic_size,
        precision=arguments.precision or "fp32",
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


def _verify(arguments: argparse.Namespace) -> int:
    if is_engine(arguments.model):
        raise BadInput(
            f"{arguments.model}: verify compares ONNX files; verify the one that the engine was built from, and "
            "compare both with aweigh val"
        )
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

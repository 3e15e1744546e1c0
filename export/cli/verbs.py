"""The verbs of the export stage: export, verify, demo.

torch and onnx are imported by the verbs, not here: every ``aweigh`` command loads this module. An engine is built from
an ONNX file without them, on the machine that is to run it.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from aweigh.export.cli.flags import BATCH, ENGINE_FLAGS, FORMATS, GRAPH_FLAGS, TOLERANCES, add_export, add_verify
from aweigh.runtime.cli.main import Verbs
from aweigh.runtime.cli.numbers import parse_batch, parse_counts
from aweigh.runtime.cli.output import emit_json
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.engine import PLAN_SUFFIXES
from aweigh.runtime.size import Size

if TYPE_CHECKING:
    from aweigh.export.engine.options import EngineOptions
    from aweigh.export.jobs.onnx import ExportOptions

_STAGE_MODULES = ("torch", "lightning_fabric", "pycocotools", "onnx", "onnxscript", "onnxruntime")


def register(verbs: Verbs) -> None:
    """Raises ModuleNotFoundError where the stage's extra is not installed; ``export`` is there all the same."""
    add_export(verbs.add("export", _export))
    _require_stage()
    add_verify(verbs.add("verify", _verify))
    demo = verbs.add("demo", _demo)
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder to be made (default %(default)s)")
    demo.add_argument("--method", default="dw", help="label assignment (default %(default)s)")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--threads", type=int, default=0, help="of the training; 0 tries what helps")


def _require_stage() -> None:
    for module in _STAGE_MODULES:
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def _export(arguments: argparse.Namespace) -> int:
    if arguments.format not in FORMATS:
        raise BadInput(f"--format {arguments.format!r}: expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if arguments.format in ("engine", "torch-trt"):
        return _export_engine(arguments)
    for name in ENGINE_FLAGS:
        if getattr(arguments, name) is not None:
            raise BadInput(f"--{name.replace('_', '-')}: goes with --format engine or torch-trt")
    if arguments.format == "triton":
        return _export_triton(arguments)
    options = _export_options(arguments)
    from aweigh.export.jobs.onnx import run_export

    return _report(run_export(arguments.model, arguments.out, options), arguments.json)


def _export_triton(arguments: argparse.Namespace) -> int:
    """An exported file is wrapped as it is; a checkpoint is exported first, with its receipt."""
    from aweigh.export.jobs.engine import refuse_graph_flags
    from aweigh.export.jobs.triton import run_triton

    model = arguments.model
    if model.suffix in (".onnx", *PLAN_SUFFIXES):
        refuse_graph_flags(model, _given_graph_flags(arguments))
    else:
        options = _export_options(arguments)
        from aweigh.export.jobs.onnx import run_export

        exported = run_export(model, None, options)
        if exported["verdict"] == "failed":
            return _report(exported, arguments.json)
        model = Path(str(exported["artifact"]))
    result = run_triton(model, arguments.out)
    if arguments.json:
        emit_json(result)
    else:
        print(f"model   {result['artifact']}")
        print(f"serve   tritonserver --model-repository {Path(result['artifact']).parent}")
    return 0


def _export_engine(arguments: argparse.Namespace) -> int:
    """An ONNX file is built without torch; a checkpoint is exported first, or goes through torch_tensorrt."""
    from aweigh.export.jobs.engine import check_onnx_model, print_engine, run_engine, run_engine_from_checkpoint

    options = _engine_options(arguments)
    if arguments.model.suffix == ".onnx":
        if arguments.format == "torch-trt":
            raise BadInput(
                f"--model {arguments.model} with --format torch-trt: expected a checkpoint; use --format engine"
            )
        check_onnx_model(arguments.model, _given_graph_flags(arguments))
        result = run_engine(arguments.model, arguments.out, options)
    elif arguments.format == "engine":
        result = run_engine_from_checkpoint(arguments.model, arguments.out, _export_options(arguments), options)
    else:
        export_options = _export_options(arguments)
        from aweigh.export.jobs.torch_trt import run_torch_trt

        result = run_torch_trt(arguments.model, arguments.out, export_options, options)
    if result["verdict"] != "built":  # the receipt of the ONNX file failed, and there is no engine
        return _report(result, arguments.json)
    if arguments.json:
        emit_json(result)
    else:
        print_engine(result)
    return 0


def _given_graph_flags(arguments: argparse.Namespace) -> dict[str, object]:
    return {
        f"--{name.replace('_', '-')}": getattr(arguments, name)
        for name, absent in GRAPH_FLAGS.items()
        if getattr(arguments, name) != absent
    }


def _engine_options(arguments: argparse.Namespace) -> EngineOptions:
    from aweigh.export.engine.options import EngineOptions
    from aweigh.export.engine.profiles import parse_opt_batches

    workspace_gb, level = arguments.workspace_gb, arguments.builder_level
    if workspace_gb is not None and not 0 < workspace_gb < 1e6:
        raise BadInput(f"--workspace-gb {workspace_gb}: expected a number above 0")
    return EngineOptions(
        opt_batches=parse_opt_batches(arguments.opt_batch) if arguments.opt_batch else (),
        workspace_bytes=None if workspace_gb is None else int(workspace_gb * 1e9),
        builder_level=level,
        timing_cache=arguments.timing_cache,
        version_compatible=bool(arguments.version_compatible),
        hardware_compatible=arguments.hardware_compatible or "none",
        device=arguments.device,
        flavour=arguments.flavour or "tensorrt",
        gpus=arguments.gpus,
    )


def _export_options(arguments: argparse.Namespace) -> ExportOptions:
    batch = parse_batch(arguments.batch or BATCH)
    size_hw = Size.parse(arguments.imgsz) if arguments.imgsz else None
    _require_stage()
    from aweigh.export.jobs.onnx import ExportOptions

    return ExportOptions(
        batch=batch,
        size_hw=size_hw,
        dynamic_size=arguments.dynamic_size,
        precision=arguments.precision or "fp32",
        post=arguments.post,
        nms=arguments.nms,
        conf=arguments.conf,
        iou=arguments.iou,
        top_k=arguments.top_k,
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
    from aweigh.export.jobs.onnx import run_verify
    from aweigh.export.proof.prove import PICTURES, Scope

    if arguments.pictures is not None and arguments.pictures < 1:
        raise BadInput(f"--pictures {arguments.pictures}: expected at least 1")
    result = run_verify(
        arguments.model,
        arguments.against,
        arguments.data,
        arguments.split,
        out=arguments.out,
        force=arguments.force,
        threads=arguments.threads,
        tolerances=_tolerances(arguments),
        device=arguments.device,
        scope=Scope(
            arguments.pictures or PICTURES,
            tuple(parse_counts(arguments.batches, "--batches")) if arguments.batches else (),
        ),
    )
    return _report(result, arguments.json)


def _tolerances(arguments: argparse.Namespace) -> dict[str, float]:
    given = {name: getattr(arguments, f"tol_{name}") for name in TOLERANCES}
    return {name: value for name, value in given.items() if value is not None}


def _demo(arguments: argparse.Namespace) -> int:
    from aweigh.export.jobs.demo import print_demo, run_demo

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
        from aweigh.export.jobs.onnx import print_result

        print_result(result)
    return 1 if result["verdict"] == "failed" else 0

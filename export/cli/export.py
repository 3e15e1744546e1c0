"""The verb export: one checkpoint or file, in one of the formats."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aweigh.export.cli.flags import BATCH, ENGINE_FLAGS, FORMATS, GRAPH_FLAGS, NOT_OFFERED, compared_images
from aweigh.export.cli.report import report
from aweigh.export.cli.stage import require_stage
from aweigh.runtime.cli.numbers import given_tolerances, parse_batch
from aweigh.runtime.cli.output import emit_json
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.engine import PLAN_SUFFIXES
from aweigh.runtime.size import Size

if TYPE_CHECKING:
    from aweigh.export.engine.options import EngineOptions
    from aweigh.export.jobs.options import ExportOptions
    from aweigh.export.jobs.results import ExportResult
    from aweigh.export.jobs.triton import TritonResult
    from aweigh.export.jobs.web import WebResult


def run_export_verb(arguments: argparse.Namespace) -> int:
    """0 where the file is written and its receipt passed, 1 where the receipt failed."""
    if arguments.format not in FORMATS:
        raise BadInput(f"--format {arguments.format!r}: expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if arguments.precision in NOT_OFFERED:
        raise BadInput(f"--precision {arguments.precision}: {NOT_OFFERED[arguments.precision]}")
    if arguments.format in ("engine", "torch-trt"):
        return _export_engine(arguments)
    for name in ENGINE_FLAGS:
        if getattr(arguments, name) is not None:
            raise BadInput(f"--{name.replace('_', '-')}: goes with --format engine or torch-trt")
    if arguments.ort_web is not None and arguments.format != "web":
        raise BadInput("--ort-web: goes with --format web")
    if arguments.format in ("triton", "web"):
        return _export_wrapped(arguments)
    options = _export_options(arguments)
    from aweigh.export.jobs.export import export

    return report(export(arguments.model, arguments.out, options), arguments.json)


def _export_wrapped(arguments: argparse.Namespace) -> int:
    """An exported file is wrapped as it is; a checkpoint is exported first, with its receipt."""
    from aweigh.export.jobs.engine import refuse_graph_flags
    from aweigh.export.jobs.triton import run_triton
    from aweigh.export.jobs.web import write_web

    model = arguments.model
    if model.suffix in (".onnx", *PLAN_SUFFIXES):
        refuse_graph_flags(model, _given_graph_flags(arguments))
    else:
        options = _export_options(arguments)
        from aweigh.export.jobs.export import export

        exported = export(model, None, options)
        if exported.verdict == "failed":
            return report(exported, arguments.json)
        model = exported.artifact
    if arguments.format == "web":
        result: TritonResult | WebResult = write_web(model, arguments.out, arguments.ort_web)
        lines = [f"folder  {result.artifact}", f"serve   python -m http.server --directory {result.artifact}"]
    else:
        result = run_triton(model, arguments.out)
        lines = [f"model   {result.artifact}", f"serve   tritonserver --model-repository {result.artifact.parent}"]
    if arguments.json:
        emit_json(result.to_dict())
    else:
        print("\n".join(lines))
    return 0


def _export_engine(arguments: argparse.Namespace) -> int:
    """An ONNX file is built without torch; a checkpoint is exported first, or goes through torch_tensorrt."""
    from aweigh.export.jobs.engine import EngineResult, build_engine, check_onnx_model, run_engine_from_checkpoint

    options = _engine_options(arguments)
    if arguments.model.suffix == ".onnx":
        if arguments.format == "torch-trt":
            raise BadInput(
                f"--model {arguments.model} with --format torch-trt: expected a checkpoint; use --format engine"
            )
        check_onnx_model(arguments.model, _given_graph_flags(arguments))
        result: EngineResult | ExportResult = build_engine(arguments.model, arguments.out, options)
    elif arguments.format == "engine":
        result = run_engine_from_checkpoint(arguments.model, arguments.out, _export_options(arguments), options)
    else:
        export_options = _export_options(arguments)
        from aweigh.export.jobs.torch_trt import run_torch_trt

        result = run_torch_trt(arguments.model, arguments.out, export_options, options)
    return report(result, arguments.json)


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
    require_stage()
    from aweigh.export.jobs.options import ExportOptions

    return ExportOptions(
        batch=batch,
        size_hw=size_hw,
        dynamic_size=arguments.dynamic_size,
        precision=arguments.precision or "fp32",
        post=arguments.post,
        nms=arguments.nms,
        conf=arguments.conf,
        iou=arguments.iou,
        agnostic=arguments.agnostic,
        top_k=arguments.top_k,
        max_det=arguments.max_det,
        golden=arguments.golden,
        data=arguments.data,
        split=arguments.split,
        outside_images=arguments.outside_images,
        verify=not arguments.no_verify,
        force=arguments.force,
        threads=arguments.threads,
        keep_high=tuple(filter(None, (arguments.keep_high or "").split(","))),
        calib=arguments.calib,
        encoding=arguments.int8_encoding,
        bisect=arguments.bisect,
        tolerances=given_tolerances(arguments),
        images=compared_images(arguments),
        strict=arguments.strict,
        match_names=arguments.match_names,
    )

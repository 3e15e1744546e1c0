"""From a checkpoint to a TensorRT plan through torch.export and torch_tensorrt, without ONNX in between.

The whole graph must convert: the plan runs in the same runner as every other, where there is no torch to take over.
Never run so far, for want of a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aweigh.export.engine.build import Builder, Plan, finish_plan, open_builder
from aweigh.export.engine.options import EngineOptions, check_options
from aweigh.export.graph.quiet import quiet_exporter
from aweigh.export.jobs.contract import file_spec
from aweigh.export.jobs.engine import EngineResult, engine_path
from aweigh.export.jobs.export import golden_metadata, load_images
from aweigh.export.jobs.options import ExportOptions
from aweigh.export.precision.table import graph_precision
from aweigh.export.proof.sides import Trained
from aweigh.export.to_onnx import check_exportable
from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.backends.tensorrt.library import LogTail, construct, load, make_logger, require
from aweigh.runtime.errors import BadInput, CannotRun, install_advice
from aweigh.runtime.files.flavours import TENSORRT
from aweigh.runtime.files.golden import GOLDEN_KEY
from aweigh.runtime.files.shape_ranges import ShapeProfile
from aweigh.runtime.spec import ModelSpec
from aweigh.train.checkpoint import Checkpoint, load_checkpoint
from aweigh.train.dense.nms import rounds_one_by_one
from aweigh.train.models.deployable import Deployable


def run_torch_trt(model: Path, out: Path | None, export: ExportOptions, options: EngineOptions) -> EngineResult:
    """Build an engine from a checkpoint.

    Raises:
        BadInput: options that torch_tensorrt does not take; before anything is written.
        CannotRun: no torch_tensorrt, no GPU, or a graph that does not convert as a whole.
        CheckFailed: see ``finish_plan``.
    """
    out = engine_path(model, out)
    checkpoint = load_checkpoint(model)
    spec = torch_trt_spec(checkpoint, export)
    profiles = check_options(spec, options)
    check_torch_trt(spec, profiles, options)
    split = load_images(spec, export)
    torch_tensorrt = _import_torch_tensorrt()
    builder = open_builder(options)
    plan = Plan(_convert(torch_tensorrt, checkpoint, spec, profiles[0], options))
    names = _plan_names(builder, plan.content, spec)
    versions = {name: version(name) for name in ("aweigh", "torch", "torch-tensorrt")}
    spec = replace(spec, versions=versions)
    golden = golden_metadata(Trained(checkpoint, spec), export.golden, split).get(GOLDEN_KEY)
    engine = finish_plan(builder, plan, spec, profiles, options, out, dict(spec.parents), golden, names)
    return EngineResult(out, engine)


def torch_trt_spec(checkpoint: Checkpoint, export: ExportOptions) -> ModelSpec:
    """The contract of the engine: NMS in matrix form, for torch_tensorrt has no converter of the other."""
    return file_spec(checkpoint, replace(export, for_engine=True))


def check_torch_trt(spec: ModelSpec, profiles: Sequence[ShapeProfile], options: EngineOptions) -> None:
    """Raises BadInput where ``--format torch-trt`` cannot do what ``--format engine`` could."""
    if options.flavour != TENSORRT.name:
        raise BadInput(f"--flavour {options.flavour} with --format torch-trt: use --format engine, or leave it out")
    if graph_precision(spec.precision).lowers:
        raise BadInput(
            f"--precision {spec.precision} with --format torch-trt: torch_tensorrt takes the types of the module, "
            "which are FP32; use --format engine"
        )
    check_exportable(spec)
    if spec.post.nms_form == "onnx":
        raise BadInput("--nms onnx with --format torch-trt: torch_tensorrt has no converter for it; use --nms matrix")
    if len(profiles) != 1:
        raise BadInput(
            f"--format torch-trt: one profile per engine, {len(profiles)} asked for; give one --opt-batch and a fixed "
            "image size, or use --format engine"
        )
    if options.timing_cache is not None:
        raise BadInput("--timing-cache with --format torch-trt: torch_tensorrt keeps one of its own")
    if options.hardware_compatible == "same-capability":
        raise BadInput("--hardware-compatible same-capability with --format torch-trt: it knows ampere-plus only")


def _import_torch_tensorrt() -> Any:
    try:
        import torch_tensorrt
    except ImportError as error:
        raise CannotRun(
            f"torch_tensorrt is not installed or does not load ({error}): {install_advice('torch-trt')}, next to a "
            "CUDA build of torch"
        ) from error
    load(TENSORRT)
    return torch_tensorrt


def _convert(
    torch_tensorrt: Any, checkpoint: Checkpoint, spec: ModelSpec, profile: ShapeProfile, options: EngineOptions
) -> bytes:
    device = torch.device(options.device or "cuda")
    module = Deployable(checkpoint.detector(), spec.post, stop_early=False).eval().to(device)
    example = torch.zeros(profile.opt, dtype=torch.uint8, device=device)
    bounds = zip(("batch", "height", "width"), profile.min, profile.max, strict=False)
    dims = {
        axis: torch.export.Dim(name, min=low, max=max(high, 2))
        for axis, (name, low, high) in enumerate(bounds)
        if low != high
    }
    shapes = torch_tensorrt.Input(
        min_shape=profile.min, opt_shape=profile.opt, max_shape=profile.max, dtype=torch.uint8
    )
    try:
        with torch.no_grad():
            program = exported_program(module, example, dims)
            plan = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
                program,
                arg_inputs=[shapes],
                workspace_size=options.workspace_bytes or 0,
                optimization_level=options.level,
                version_compatible=options.version_compatible,
                hardware_compatible=options.hardware_compatible == "ampere-plus",
                disable_tf32=True,
                require_full_compilation=True,
                max_aux_streams=0,
            )
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise CannotRun(
            f"torch_tensorrt {torch_tensorrt.__version__} does not convert this model: {error}; use --format engine"
        ) from error
    return bytes(plan)


def exported_program(module: nn.Module, example: Tensor, dims: Mapping[int, Any]) -> torch.export.ExportedProgram:
    """A module in torch's own operators alone: those of this package are known to the ONNX exporter only."""
    with quiet_exporter():
        program = torch.export.export(module, (example,), dynamic_shapes=(dict(dims),))
        plain: torch.export.ExportedProgram = program.run_decompositions(
            {torch.ops.aweigh.last_rounds.default: rounds_one_by_one}
        )
        return plain


def _plan_names(builder: Builder, plan: bytes, spec: ModelSpec) -> dict[str, str]:
    """Contract name to the plan's own, which torch_tensorrt makes up."""
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = builder.module
    if builder.cuda is not None:
        builder.cuda.use()
    log = LogTail()
    logger = make_logger(trt, log)
    runtime = construct(trt.Runtime, logger, log=log)
    engine = require(runtime.deserialize_cuda_engine(plan), "the plan just built cannot be read back", log)
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    return match_names(inputs, [name for name in names if name not in inputs], spec.post.output_names)


def match_names(inputs: Sequence[str], outputs: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """Pair the contract's outputs with a plan's by the numbers in their names: ``output0``, ``output1``.

    Raises:
        CannotRun: other numbers of inputs or outputs.
    """
    if len(inputs) != 1 or len(outputs) != len(wanted):
        raise CannotRun(
            f"torch_tensorrt made an engine with the inputs {list(inputs)} and the outputs {list(outputs)}; "
            f"expected one input and {len(wanted)} outputs"
        )
    ordered = sorted(outputs, key=lambda name: int(match[0]) if (match := re.search(r"\d+$", name)) else 0)
    return {INPUT_NAME: inputs[0], **dict(zip(wanted, ordered, strict=True))}

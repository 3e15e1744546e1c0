"""From a trained detector to one ONNX file with everything behind the JPEG decoder in it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from aweigh.export.graph.edits import cast_input_first, drop_outputs, name_weights, strip_origins
from aweigh.export.graph.layers import layer_names, require_layers
from aweigh.export.graph.lean import share_operands
from aweigh.export.graph.nms import translation_table
from aweigh.export.graph.quiet import quiet_exporter
from aweigh.export.graph.simplify import simplify
from aweigh.export.graph.traced import Traced
from aweigh.export.precision.count import precision_metadata, require_lowered
from aweigh.export.precision.lowering import Lowering
from aweigh.export.precision.table import OPSET, graph_precision
from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.spec import METADATA_KEY, ModelSpec
from aweigh.train.models.deployable import Deployable
from aweigh.train.models.detector import DenseDetector, architecture

_MAX_BYTES = (1 << 31) - 1  # of a protobuf message
_MAX_BATCH = 1024
_MAX_SIDE_PX = 8192
# Any size traces the same graph; two sides that differ, on every level, keep it from taking one for the other.
_EXAMPLE_HW = (256, 320)


def export_onnx(
    detector: DenseDetector,
    spec: ModelSpec,
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    lowering: Lowering | None = None,
) -> ModelSpec:
    """Write ``path``, whole or not at all.

    Args:
        detector: weights in float32; switched to evaluation mode.
        spec: input, post-processing, batch range and precision of the file; ``versions`` is filled in here.
        metadata: further entries of metadata_props.
        lowering: for precisions below fp32.

    Returns:
        The spec as it stands in the file.

    Raises:
        BadInput: a spec that cannot be exported, a layer to be kept high that does not exist, or a file above 2 GB.
        CheckFailed: nothing in the graph has the precision asked for.
    """
    lowering = lowering or Lowering()
    check_exportable(spec)
    require_layers(lowering.keep_high, layer_names(detector))
    return write_onnx(make_graph(detector, spec, lowering), spec, path, metadata, lowering)


def check_exportable(spec: ModelSpec) -> None:
    """Raises BadInput where no graph can be made of this spec."""
    low, high = spec.batch
    if not 1 <= low <= high <= _MAX_BATCH:
        raise BadInput(f"--batch {low}-{high}: expected a number or a range A-B with 1 <= A <= B <= {_MAX_BATCH}")
    multiple = spec.input.pad_multiple
    if spec.input.dynamic_size and architecture(spec.architecture).backbone == "swin":
        raise BadInput(
            f"{spec.architecture} at free sizes (--dynamic-size, or trained with resize keep-ratio): torch's exporter "
            "was not done with its windows after seven minutes; train it with --resize letterbox and export at one size"
        )
    if spec.input.resize == "keep-ratio" and not spec.input.dynamic_size:
        raise BadInput("resize policy keep-ratio gives inputs of many sizes: export with --dynamic-size")
    if spec.input.dynamic_size and spec.input.resize != "keep-ratio" and any(s % multiple for s in spec.input.size_hw):
        height, width = spec.input.size_hw
        raise BadInput(f"--imgsz {height}x{width} with --dynamic-size: expected multiples of {multiple}")
    for flag, count in (("--max-det", spec.post.max_det), ("--top-k", spec.post.pre_nms_top_k)):
        if count < 1:
            raise BadInput(f"{flag} {count}: expected at least 1")
    for flag, value in (("--conf", spec.post.score_threshold), ("--iou", spec.post.iou_threshold)):
        if not 0 <= value < 1:
            raise BadInput(f"{flag} {value}: expected 0 or more and below 1")


def make_graph(detector: DenseDetector, spec: ModelSpec, lowering: Lowering, stop_early: bool = True) -> ir.Model:
    """The graph in the spec's precision, without metadata. The spec has passed ``check_exportable``.

    ``stop_early``: see :func:`trace`.

    Raises:
        BadInput: an operator that has no such precision.
    """
    precision = graph_precision(spec.precision)
    model = trace(precision.lower(detector, lowering.keep_high), spec, stop_early)
    model = precision.rewrite(model, lowering, spec.batch[0])
    share_operands(model)
    return model


def write_onnx(
    model: ir.Model,
    spec: ModelSpec,
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    lowering: Lowering | None = None,
) -> ModelSpec:
    """Write a graph from ``make_graph`` with its contract; arguments, result and errors as for ``export_onnx``."""
    spec = replace(spec, versions={name: version(name) for name in ("aweigh", "torch", "onnx", "onnxscript")})
    note = precision_metadata(spec.precision, lowering or Lowering(), require_lowered(model, spec.precision))
    proto = ir.to_proto(model)
    proto.producer_name, proto.producer_version = "aweigh", version("aweigh")
    proto.doc_string = f"{spec.architecture} trained with {spec.method}, post-processing {spec.post.kind}"
    onnx.helper.set_model_props(proto, {METADATA_KEY: spec.to_json(), **(metadata or {}), **note})
    size_bytes = proto.ByteSize()
    if size_bytes > _MAX_BYTES:
        raise BadInput(f"{path}: {size_bytes} bytes; one ONNX file holds at most {_MAX_BYTES}, take a smaller network")
    onnx.checker.check_model(proto, full_check=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))
    return spec


def trace(detector: DenseDetector, spec: ModelSpec, stop_early: bool = True) -> ir.Model:
    """The graph of a detector as it is; the tensors between the stages keep the names of ``Traced.stage_names``.

    With ``stop_early`` NMS in matrix form has a branch (the operator If) that spares most of its work. An engine goes
    without: a branch that depends on the data cannot be part of a CUDA graph.
    """
    module = Traced(Deployable(detector, spec.post, stop_early)).eval()
    low, high = spec.batch
    fixed = low == high
    height, width = _EXAMPLE_HW if spec.input.dynamic_size else spec.input.size_hw
    example = torch.zeros((low if fixed else 2, height, width, 3), dtype=torch.uint8)
    shapes = {} if fixed else {0: torch.export.Dim("batch", min=low, max=max(high, 2))}
    if spec.input.dynamic_size:
        shapes |= {
            1: torch.export.Dim("height", min=32, max=_MAX_SIDE_PX),
            2: torch.export.Dim("width", min=32, max=_MAX_SIDE_PX),
        }
    opset = graph_precision(spec.precision).opset
    model = to_graph(module, (example,), (shapes,), opset, [INPUT_NAME], module.output_names)
    sides = model.graph.inputs[0].shape
    if sides is None or any(isinstance(sides[axis], int) for axis in shapes):
        raise CannotRun(f"PyTorch's exporter made a graph for {sides} alone, expected free axes {sorted(shapes)}")
    drop_outputs(model, module.deployable.postprocess.spec.output_names)
    cast_input_first(model)
    name_weights(model, "deployable.detector.")
    strip_origins(model)
    model.graph.name = "aweigh"
    return model


def to_graph(
    module: nn.Module,
    example: tuple[Tensor, ...],
    dynamic_shapes: tuple[dict[int, Any], ...],
    opset: int = OPSET,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> ir.Model:
    """A module, traced on ``example`` and simplified; ``dynamic_shapes`` holds the free axes per input."""
    # A branch that was traced before, for one batch, would be found again, and with it the graph take that batch alone.
    torch.compiler.reset()
    with quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            verbose=False,
            optimize=False,
            opset_version=opset,
            input_names=input_names,
            output_names=output_names,
            dynamic_shapes=dynamic_shapes,
            custom_translation_table=translation_table(),
        )
        assert program is not None
        model: ir.Model = program.model
        simplify(model)
    return model


def default_path(checkpoint: Path) -> Path:
    """Where an export goes by default: next to the checkpoint."""
    return checkpoint.with_suffix(".onnx")

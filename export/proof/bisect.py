"""Which layer breaks in low precision: trained model and file side by side, convolution by convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from rich.table import Table

from aweigh.export.graph.layers import convolutions
from aweigh.export.graph.traced import STAGE_PREFIX
from aweigh.export.proof.sides import tapped_session
from aweigh.export.to_onnx import trace
from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.cli.output import console
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.golden import Golden
from aweigh.runtime.files.onnx import read_onnx
from aweigh.train.checkpoint import Checkpoint

# An error jumps where it is this many times the largest before it, and above what rounding explains. Set by judgement,
# and tried on planted faults alone.
_JUMP = 4.0
_ROUNDING = {"fp16": 0.01, "bf16": 0.08, "int8": 0.25}
_HALF_MAX = 65504.0
_ENDS_REACH = {"Conv", "InstanceNormalization", "GroupNormalization"}


@dataclass(frozen=True)
class LayerError:
    """One convolution, or a stage behind them all, over all pictures and pyramid levels.

    Attributes:
        layer: name as in the checkpoint; boxes and scores for the decoded ends.
        error: root mean square of the difference, relative to that of the trained model's values.
        largest: absolute value in the trained model.
        finite: all values of the file.
        jumps: whether the error is out of proportion to what comes in.
    """

    layer: str
    error: float
    largest: float
    finite: bool
    jumps: bool = False


@dataclass(frozen=True)
class Bisection:
    """``first``: the layer whose error jumps first; None where none does. ``keep_high``: what is proposed."""

    layers: tuple[LayerError, ...]
    first: str | None
    keep_high: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; an infinite error is null."""
        rows = [
            {name: None if value == math.inf else value for name, value in asdict(row).items()} for row in self.layers
        ]
        return {"first": self.first, "keep_high": list(self.keep_high), "layers": rows}


def bisect(artifact: Path, checkpoint: Checkpoint, pictures: Sequence[Golden], threads: int = 1) -> Bisection:
    """Tap every convolution of a copy of ``artifact`` and of the trained model as an FP32 graph."""
    spec = read_onnx(artifact).spec(artifact)
    reference = trace(checkpoint.detector(), replace(spec, precision="fp32"))
    sums: dict[str, LayerError] = {}
    file = onnx.load(artifact)
    pairs = _pairs(reference.graph, file.graph)
    ours = tapped_session(reference, [a for _, a, _ in pairs], threads)
    theirs = tapped_session(file, [b for _, _, b in pairs], threads)
    for picture in pictures:
        feed = {INPUT_NAME: picture.image_u8[None].repeat(spec.batch[0], axis=0)}
        values = zip(
            pairs,
            ours.run([a for _, a, _ in pairs], feed),
            theirs.run([b for _, _, b in pairs], feed),
            strict=True,
        )
        for (layer, _, _), a, b in values:
            error = _error(layer, a, b)
            sums[layer] = _joined(sums[layer], error) if layer in sums else error
    layers = mark_jumps(list(sums.values()), spec.precision)
    first = next((row.layer for row in layers if row.jumps), None)
    return Bisection(tuple(layers), first, proposal(layers, reference.graph, spec.precision))


def mark_jumps(layers: Sequence[LayerError], precision: str) -> list[LayerError]:
    """Compare each error with the largest finite one before it."""
    marked: list[LayerError] = []
    before = 0.0
    for row in layers:
        jumps = not row.finite or row.error > max(_JUMP * before, _ROUNDING[precision])
        # Behind the first value that is not finite everything is broken, and nothing can be told.
        behind = any(not earlier.finite for earlier in marked)
        marked.append(replace(row, jumps=jumps and not behind))
        before = max(before, row.error if row.finite else 0.0)
    return marked


def proposal(layers: Sequence[LayerError], graph: onnx.GraphProto, precision: str) -> tuple[str, ...]:
    """Layers that jump; in half those too whose values overflow, with the layers that read them."""
    chosen = [row.layer for row in layers if row.jumps]
    if precision == "fp16":
        # Half of the limit: other pictures may show larger values.
        large = {row.layer for row in layers if row.largest > _HALF_MAX / 2}
        chosen += large
        chosen += _readers(graph, large)
    names = {layer for layer, _ in convolutions(graph)}
    order = [row.layer for row in layers]
    return tuple(sorted(names.intersection(chosen), key=order.index))


def print_bisection(result: dict[str, Any]) -> None:
    """The table, and what to do, on stdout."""
    out = console()
    table = Table("layer", "error", "largest value", "", title="error by layer", title_justify="left")
    for row in result["layers"]:
        error = f"{row['error']:.1e}" if row["error"] is not None and row["finite"] else "not finite"
        table.add_row(row["layer"], error, f"{row['largest']:.3g}", "jumps" if row["jumps"] else "")
    out.print(table)
    if result["first"] is None:
        out.print("No layer's error jumps: rounding adds up, or the fault is not one of precision.")
    else:
        out.print(f"first jump: {result['first']}")
    if result["keep_high"]:
        out.print(f"try: --keep-high {','.join(result['keep_high'])}")


def _pairs(reference: onnx.GraphProto, file: onnx.GraphProto) -> list[tuple[str, str, str]]:
    """(layer, tensor of the trained model, tensor of the file), in the order of the trained model.

    Raises BadInput for a file whose convolutions are not those of the checkpoint.
    """
    nodes, others = list(convolutions(reference)), list(convolutions(file))
    if {node.name for _, node in nodes} == {node.name for _, node in others}:
        # Quantised from the same graph, and sorted anew: the pyramid's levels may have changed places.
        by_name = {node.name: entry for entry in others for node in [entry[1]]}
        others = [by_name[node.name] for _, node in nodes]
    else:
        # Traced anew: the order within a layer is that of the levels.
        order = {layer: i for i, (layer, _) in reversed(list(enumerate(nodes)))}
        nodes.sort(key=lambda entry: order[entry[0]])
        others.sort(key=lambda entry: order.get(entry[0], 0))
    if [layer for layer, _ in nodes] != [layer for layer, _ in others]:
        raise BadInput(
            "--bisect: the file's convolutions are not those of the checkpoint; "
            "give the checkpoint that it was exported from"
        )
    pairs = [(layer, a.output[0], b.output[0]) for (layer, a), (_, b) in zip(nodes, others, strict=True)]
    present = {name for node in file.node for name in node.output}
    ends = [name for name in ("boxes", "scores") if STAGE_PREFIX + name in present]
    return [*pairs, *((name, STAGE_PREFIX + name, STAGE_PREFIX + name) for name in ends)]


def _error(layer: str, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> LayerError:
    largest = float(np.abs(ours).max(initial=0.0))
    if ours.shape != theirs.shape or not np.isfinite(theirs).all():
        return LayerError(layer, math.inf, largest, bool(np.isfinite(theirs).all()))
    a = ours.astype(np.float64)
    norm = max(float(np.sqrt(np.mean(np.square(a)))), 1e-12)
    return LayerError(layer, float(np.sqrt(np.mean(np.square(a - theirs)))) / norm, largest, True)


def _joined(first: LayerError, second: LayerError) -> LayerError:
    return LayerError(
        first.layer,
        max(first.error, second.error),
        max(first.largest, second.largest),
        first.finite and second.finite,
    )


def _readers(graph: onnx.GraphProto, layers: set[str]) -> set[str]:
    """Convolutions that these layers' outputs reach with no other convolution or norm between."""
    nodes = list(convolutions(graph))
    by_output = {node.output[0]: layer for layer, node in nodes}
    reached = {node.output[0] for layer, node in nodes if layer in layers}
    found: set[str] = set()
    for node in graph.node:  # sorted
        if reached.isdisjoint(node.input):
            continue
        if node.op_type == "Conv":
            found.add(by_output[node.output[0]])
        elif node.op_type not in _ENDS_REACH:
            reached.update(node.output)
    return found

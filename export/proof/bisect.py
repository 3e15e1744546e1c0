"""Which layer breaks in low precision: trained model and file side by side, convolution by convolution."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from aweigh.export.graph.layers import convolutions
from aweigh.export.graph.traced import STAGE_PREFIX
from aweigh.export.precision.table import graph_precision
from aweigh.export.proof.sides import tapped_session
from aweigh.export.to_onnx import trace
from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.golden import Golden
from aweigh.runtime.files.onnx import read_onnx
from aweigh.train.models.detector import DenseDetector

# An error jumps where it is this many times the largest before it, and above what rounding explains. Set by judgement,
# and tried on planted faults only.
_JUMP = 4.0
_ENDS_REACH = {"InstanceNormalization", "GroupNormalization"}


@dataclass(frozen=True)
class LayerError:
    """One convolution, or a stage behind them all, over all images and pyramid levels.

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


def bisect(artifact: Path, detector: DenseDetector, images: Sequence[Golden], threads: int = 1) -> Bisection:
    """Tap every convolution of a copy of ``artifact`` and of the trained model as an FP32 graph.

    Args:
        detector: the trained model that ``artifact`` was exported from.
        threads: of ONNX Runtime.

    Raises:
        BadInput: a file whose convolutions are not those of ``detector``.
    """
    spec = read_onnx(artifact).spec(artifact)
    reference = trace(detector, replace(spec, precision="fp32"))
    sums: dict[str, LayerError] = {}
    file = ir.from_proto(onnx.load(artifact))
    pairs = _pairs(reference.graph, file.graph)
    ours = tapped_session(reference, [a for _, a, _ in pairs], threads)
    theirs = tapped_session(file, [b for _, _, b in pairs], threads)
    for image in images:
        feed = {INPUT_NAME: image.image_u8[None].repeat(spec.batch[0], axis=0)}
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
    before, rounding = 0.0, graph_precision(precision).rounding
    for row in layers:
        jumps = not row.finite or row.error > max(_JUMP * before, rounding)
        # Behind the first value that is not finite everything is broken, and errors say nothing.
        behind = any(not earlier.finite for earlier in marked)
        marked.append(replace(row, jumps=jumps and not behind))
        before = max(before, row.error if row.finite else 0.0)
    return marked


def proposal(layers: Sequence[LayerError], graph: ir.Graph, precision: str) -> tuple[str, ...]:
    """Layers that jump; and those whose values overflow in this precision, with the layers that read them."""
    limit = graph_precision(precision).largest_safe
    large = {row.layer for row in layers if row.largest > limit}
    chosen = {row.layer for row in layers if row.jumps} | large | _readers(graph, large)
    names = {layer for layer, _ in convolutions(graph)}
    order = [row.layer for row in layers]
    return tuple(sorted(names & chosen, key=order.index))


def _pairs(reference: ir.Graph, file: ir.Graph) -> list[tuple[str, str, str]]:
    """(layer, tensor of the trained model, tensor of the file), in the order of the trained model.

    Raises BadInput for a file whose convolutions are not those of the checkpoint.
    """
    nodes, others = list(convolutions(reference)), list(convolutions(file))
    if {node.name for _, node in nodes} == {node.name for _, node in others}:
        # Quantised from the same graph, and sorted anew: the pyramid's levels may have changed places.
        by_name = {entry[1].name: entry for entry in others}
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
    pairs = [(layer, _output(a), _output(b)) for (layer, a), (_, b) in zip(nodes, others, strict=True)]
    present = {value.name for node in file for value in node.outputs}
    ends = [name for name in ("boxes", "scores") if STAGE_PREFIX + name in present]
    return [*pairs, *((name, STAGE_PREFIX + name, STAGE_PREFIX + name) for name in ends)]


def _output(node: ir.Node) -> str:
    name = node.outputs[0].name
    assert name is not None
    return name


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


def _readers(graph: ir.Graph, layers: Collection[str]) -> set[str]:
    """Convolutions that these layers' outputs reach with no other convolution or norm between."""
    names = {node: layer for layer, node in convolutions(graph)}
    pending = [node for node, layer in names.items() if layer in layers]
    readers: set[str] = set()
    seen: set[ir.Node] = set()
    while pending:
        for reader in pending.pop().successors():
            if reader in names:
                readers.add(names[reader])
            elif reader not in seen and reader.op_type not in _ENDS_REACH:
                seen.add(reader)
                pending.append(reader)
    return readers

"""INT8 graphs: what stays in float reads float tensors, and what is quantised is still computed in integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from aweigh.export.graph.layers import convolutions
from aweigh.export.precision.count import count_precision
from aweigh.export.precision.encoding import for_onnxruntime, for_tensorrt
from aweigh.export.precision.quantize import quantized
from aweigh.export.proof.images import golden_images
from aweigh.export.to_onnx import trace
from aweigh.train.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow


def rounded_readers(graph: ir.Graph, high: tuple[str, ...]) -> set[str]:
    """Layers in float whose input comes straight from DequantizeLinear."""
    readers = [(layer, node.inputs[0].producer()) for layer, node in convolutions(graph) if layer in high]
    return {layer for layer, before in readers if before is not None and before.op_type == "DequantizeLinear"}


# Layers kept high that share their input with a quantised one, of which ``behind_sums`` are fed by a quantised
# convolution alone: o2f's regression reads what its other tower continues from, ALA's foreground a map of the pyramid.
@pytest.mark.parametrize(
    ("method", "keep_high", "sharing", "behind_sums"),
    [
        ("o2f", (), {"head.outputs.reg"}, set()),
        ("ala", (), {"method.property_branch.align"}, {"method.property_branch.align"}),
        (
            "fcos",
            ("head.towers.cls", "backbone.layer4.0.conv1"),
            {"head.towers.cls.0", "backbone.layer4.0.conv1"},
            {"head.towers.cls.0"},
        ),
    ],
)
def test_what_is_kept_high_reads_float(
    method: str,
    keep_high: tuple[str, ...],
    sharing: set[str],
    behind_sums: set[str],
    make_checkpoint: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpoint = load_checkpoint(make_checkpoint(method))
    plain = trace(checkpoint.detector(), checkpoint.spec)
    images = [p.image_u8 for p in golden_images(checkpoint.spec.input, 2)]
    common = quantized(plain, images, 1, keep_high)
    count = count_precision(common, "int8")
    assert rounded_readers(common.graph, count.high) == behind_sums
    for encoded, expected in ((for_tensorrt(common), set()), (for_onnxruntime(common), behind_sums)):
        onnx.checker.check_model(ir.to_proto(encoded), full_check=True)
        assert count_precision(encoded, "int8").high == count.high
        assert rounded_readers(encoded.graph, count.high) == expected
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 3
    settings.optimized_model_filepath = str(tmp_path / "run.onnx")
    content = ir.to_proto(for_onnxruntime(common)).SerializeToString()
    onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "run.onnx").graph.node]
    assert operators.count("QLinearConv") == count.lowered
    # Without it, the rounded tensor is what they read: the test would notice.
    monkeypatch.setattr("aweigh.export.precision.tidy.connect_float_convolutions", lambda graph, wanted: None)
    assert rounded_readers(quantized(plain, images, 1, keep_high).graph, count.high) == sharing

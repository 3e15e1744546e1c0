"""16 bits in networks of other layers than convolutions: Swin, with its layer norms and products of matrices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from checkpoints import save_untrained
from onnx import TensorProto

from aweigh.export import ExportOptions, export
from aweigh.export.precision.lowering import Lowering
from aweigh.export.to_onnx import make_graph
from aweigh.train.checkpoint import Checkpoint, load_checkpoint

pytestmark = pytest.mark.slow
ELEMENTS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@pytest.fixture(scope="module")
def swin(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(save_untrained("fcos", tmp_path_factory.mktemp("swin") / "best.pt", "swin-t"))


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of each tensor by its name."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    constants = {tensor.name: tensor.data_type for tensor in inferred.initializer}
    return constants | {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_norms_and_products_of_a_transformer_are_in_16_bits(precision: str, swin: Checkpoint, tmp_path: Path) -> None:
    options = ExportOptions(
        batch=(1, 3), precision=precision, nms="matrix", golden=1, threads=1, for_engine=precision == "bf16"
    )
    result = export(swin, tmp_path / "best.onnx", options)
    # ONNX Runtime computes no bf16 on a CPU: there is no receipt.
    assert (result.verdict, result.failed) == ("passed" if precision == "fp16" else "not verified", ())
    model = onnx.load(tmp_path / "best.onnx")
    types = types_of(model)
    norms = [n for n in model.graph.node if n.op_type == "LayerNormalization"]
    assert len(norms) == 31  # 24 in the blocks, 3 in mergings, 1 behind the patches, 3 before the pyramid
    assert {types[name] for norm in norms for name in (*norm.input, norm.output[0])} == {ELEMENTS[precision]}
    products = [n for n in model.graph.node if n.op_type == "MatMul"]
    assert len([n for n in products if types[n.output[0]] == ELEMENTS[precision]]) == 75


def test_what_is_kept_high_stays_in_float(swin: Checkpoint) -> None:
    spec = replace(swin.spec, precision="fp16")
    model = ir.to_proto(make_graph(swin.detector(), spec, Lowering(("backbone.layers.3",))))
    onnx.checker.check_model(model, full_check=True)
    types = types_of(model)
    norms = [types[n.output[0]] for n in model.graph.node if n.op_type == "LayerNormalization"]
    assert (norms.count(TensorProto.FLOAT), norms.count(TensorProto.FLOAT16)) == (4, 27)  # two blocks of the last stage

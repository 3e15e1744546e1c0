from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.spec import ModelSpec


def test_agrees_with_the_onnx_package(model: Path, spec: ModelSpec) -> None:
    expected = onnx.load(str(model))
    got = read_onnx(model)
    assert [(n.name, n.op_type, n.inputs, n.outputs) for n in got.nodes] == [
        (n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in expected.graph.node
    ]
    assert got.metadata == {p.key: p.value for p in expected.metadata_props}
    assert got.opsets == {"ai.onnx": 18}
    assert (got.ir_version, got.producer) == (expected.ir_version, "tests")
    assert got.spec(model) == spec


def test_weights_are_passed_over(make_model: Callable[..., Path]) -> None:
    path = make_model()
    model = onnx.load(str(path))
    model.graph.initializer.append(onnx.helper.make_tensor("large", onnx.TensorProto.FLOAT, [70_000], [0.5] * 70_000))
    onnx.save(model, str(path))
    assert len(read_onnx(path).nodes) == len(model.graph.node)


@pytest.mark.parametrize("step", range(1, 60, 7))
def test_cut_off_anywhere(model: Path, step: int) -> None:
    data = model.read_bytes()
    for length in range(step, len(data), 500):
        model.write_bytes(data[:length])
        with pytest.raises(BadInput):
            read_onnx(model).spec(model)

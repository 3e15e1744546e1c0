"""Inputs and outputs of an engine, matched with those that the contract names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.backends.tensorrt.lane import Port
from aweigh.runtime.backends.tensorrt.library import numpy_dtype
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.engine import EngineFile
from aweigh.runtime.files.fingerprint import rebuild_hint

if TYPE_CHECKING:
    import tensorrt as trt

# What a plan may have in place of a type of the ONNX file: TensorRT keeps INT64, older front ends narrow it.
_NARROWED = {"int64": "int32"}


def find_ports(trt_module: Any, path: str, engine: trt.ICudaEngine, file: EngineFile) -> tuple[Port, list[Port]]:
    """Input and outputs as the contract names them. Raises BadInput where the plan does not have them."""
    plan_names = {tensor.name: tensor.plan_name for tensor in file.tensors}
    there = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
    wanted = {INPUT_NAME: "uint8", **{output.name: output.dtype for output in file.spec.post.outputs}}
    missing = [name for name in wanted if plan_names.get(name) not in there]
    if missing:
        raise BadInput(
            f"{path}: the plan has the tensors {', '.join(sorted(there))}; {', '.join(missing)} of the contract "
            f"{'is' if len(missing) == 1 else 'are'} missing; {rebuild_hint(path, file.flavour)}"
        )
    ports = []
    for name, expected in wanted.items():
        dtype = numpy_dtype(trt_module, engine.get_tensor_dtype(plan_names[name]), name)
        if dtype not in (np.dtype(expected), np.dtype(_NARROWED.get(expected, expected))):
            raise BadInput(
                f"{path}: tensor {name!r} of the plan is {dtype}, expected {expected}; "
                f"{rebuild_hint(path, file.flavour)}"
            )
        ports.append(Port(name, plan_names[name], dtype))
    return ports[0], ports[1:]

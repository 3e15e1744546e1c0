"""The audit of a build: what every convolution computes in, by the ONNX file and by the network parsed from it.

Both are read apart and must agree, convolution by convolution. Nothing is built for it and no GPU is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aweigh.runtime.errors import CheckFailed
from aweigh.runtime.files.audit import LayerCount
from aweigh.runtime.files.onnx import Node, OnnxFile

if TYPE_CHECKING:
    import tensorrt as trt

# ONNX's numbers of element types.
_ONNX_TYPES = {1: "fp32", 2: "uint8", 3: "int8", 10: "fp16", 11: "fp64", 16: "bf16", 17: "fp8", 21: "uint4", 22: "int4"}
_TENSORRT_TYPES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}
_SHOWN = 5


def convolutions_in_file(file: OnnxFile) -> dict[str, str]:
    """The precision of each convolution by the name of its node, as the ONNX file says it.

    A convolution whose image and kernel both come from DequantizeLinear computes in their quantised type; any other in
    the type of its kernel.

    Raises:
        CheckFailed: a kernel whose type the file does not show.
    """
    producers = {output: node for node in file.nodes for output in node.outputs}
    return {node.name: _precision(node, producers, file.initializers) for node in file.nodes if node.op_type == "Conv"}


def _precision(node: Node, producers: Mapping[str, Node], types: Mapping[str, int]) -> str:
    image, kernel = (producers.get(name) for name in node.inputs[:2])
    quantised = [p for p in (image, kernel) if p is not None and p.op_type == "DequantizeLinear"]
    if len(quantised) == 2 and len(quantised[0].inputs) == 3:
        return _ONNX_TYPES.get(types.get(quantised[0].inputs[2], 0), "an unknown type")
    # A kernel that alone is quantised comes out in the type of its scale.
    source = node.inputs[1] if kernel is None or kernel not in quantised else kernel.inputs[1]
    element = _ONNX_TYPES.get(types.get(source, 0))
    if element is None:
        raise CheckFailed(f"convolution {node.name}: the file does not show the type of its kernel {node.inputs[1]!r}")
    return element


def convolutions_in_network(trt_module: Any, network: trt.INetworkDefinition) -> dict[str, str]:
    """The same by TensorRT's layers, of a strongly typed network as the parser made it."""
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = trt_module
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    quantised = {
        layer.get_output(0).name: layer.get_input(0) for layer in layers if layer.type == trt.LayerType.DEQUANTIZE
    }
    precisions = {}
    for layer in layers:
        if layer.type == trt.LayerType.CONVOLUTION:
            tensors = [layer.get_input(i) for i in range(min(layer.num_inputs, 2))]
            behind = [quantised.get(tensor.name) for tensor in tensors]
            # A kernel that is a constant is no input: the image's own type decides then.
            source = behind[0] if len(behind) == 2 and None not in behind else tensors[0]
            assert source is not None
            precisions[layer.name] = precision_name(source.dtype)
    return precisions


def precision_name(dtype: trt.DataType) -> str:
    """``fp16`` for ``DataType.HALF``; ``integer`` for indices, sizes and truth values."""
    return _TENSORRT_TYPES.get(str(dtype).rpartition(".")[2], "integer")


def require_equal(by_file: Mapping[str, str], by_network: Mapping[str, str], library: str) -> None:
    """Raises CheckFailed where a convolution is missing, is surplus, or computes in another type."""
    differences = [
        f"{name}: {by_file.get(name, 'absent')} in the ONNX file, {by_network.get(name, 'absent')} in the network"
        for name in [*by_file, *(name for name in by_network if name not in by_file)]
        if by_file.get(name) != by_network.get(name)
    ]
    if differences:
        shown = "; ".join(differences[:_SHOWN])
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise CheckFailed(
            f"{library} would compute {len(differences)} of {len(by_file)} convolutions otherwise than the ONNX file "
            f"says: {shown}{more}; no engine is built"
        )


def count_layers(
    trt_module: Any, network: trt.INetworkDefinition, convolutions: Mapping[str, str]
) -> tuple[LayerCount, ...]:
    """All layers by the precision that they compute in.

    A convolution by ``convolutions``, a matrix product by its first input, any other layer by its first output.
    """
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = trt_module
    kinds: dict[str, Counter[str]] = {}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        kind = "layers"
        if layer.type == trt.LayerType.CONVOLUTION:
            kind, precision = "convolutions", convolutions[layer.name]
        elif layer.type == trt.LayerType.MATRIX_MULTIPLY:
            kind, precision = "matrix_products", precision_name(layer.get_input(0).dtype)
        else:
            precision = precision_name(layer.get_output(0).dtype) if layer.num_outputs else "integer"
        kinds.setdefault(precision, Counter()).update({kind, "layers"})
    counts = [LayerCount(name, c["convolutions"], c["matrix_products"], c["layers"]) for name, c in kinds.items()]
    return tuple(sorted(counts, key=lambda count: (-count.convolutions, -count.layers)))

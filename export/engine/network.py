"""From the bytes of an ONNX file to a strongly typed TensorRT network, audited; nothing is built yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aweigh.export.engine.audit import convolutions_in_file, convolutions_in_network, count_layers, require_equal
from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.backends.tensorrt.library import LogTail, check, construct, make_logger, numpy_dtype, shape_of
from aweigh.runtime.errors import CannotRun
from aweigh.runtime.files.audit import LayerCount
from aweigh.runtime.files.engine import EngineTensor
from aweigh.runtime.files.flavours import Flavour
from aweigh.runtime.files.onnx import OnnxFile
from aweigh.runtime.spec import ModelSpec

if TYPE_CHECKING:
    import tensorrt as trt

# A remark of the parser for callers in C++: an output of 64-bit integers needs memory for them. It has that here.
_NO_WARNING = "Int64 binding"


@dataclass(frozen=True)
class ParsedNetwork:
    """A network, and all that must live as long as it.

    Attributes:
        tensors: inputs and outputs, in the order of the contract.
        layers: by precision.
        warnings: of the parser.
    """

    builder: trt.Builder
    network: trt.INetworkDefinition
    parser: trt.OnnxParser
    logger: trt.ILogger
    log: LogTail
    tensors: tuple[EngineTensor, ...]
    layers: tuple[LayerCount, ...]
    warnings: tuple[str, ...]


def parse_network(
    trt_module: Any, flavour: Flavour, content: bytes, model: str, file: OnnxFile, spec: ModelSpec
) -> ParsedNetwork:
    """Parse, and hold every convolution against the ONNX file.

    Args:
        trt_module: the flavour's library, see ``library.load``.
        content: the bytes of the ONNX file; ``model``: its name, for messages.
        file: the same file as read by ``read_onnx``; ``spec``: its contract.

    Raises:
        CannotRun: the parser refuses the graph, or an input or output of the contract is missing.
        CheckFailed: a convolution would compute in another type than the file says.
    """
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = trt_module
    log = LogTail()
    logger = make_logger(trt_module, log)
    builder = construct(trt.Builder, logger, log=log)
    # TensorRT 11 ignores the flag, and may drop it one day, for there is no other kind of network then.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = construct(trt.OnnxParser, network, logger, log=log)
    if not parser.parse(content, model):
        raise CannotRun(parse_failure(model, [parser.get_error(i) for i in range(parser.num_errors)], flavour))
    convolutions = convolutions_in_network(trt_module, network)
    require_equal(convolutions_in_file(file), convolutions, f"{flavour.title} {trt.__version__}")
    return ParsedNetwork(
        builder,
        network,
        parser,
        logger,
        log,
        _tensors(trt_module, network, (INPUT_NAME, *spec.post.output_names)),
        count_layers(trt_module, network, convolutions),
        tuple(line for line in log.take() if _NO_WARNING not in line),
    )


def parse_failure(model: str, errors: Sequence[Any], flavour: Flavour) -> str:
    """Why the parser refuses a graph, node by node; ``errors`` are TensorRT's ParserError."""
    lines = []
    for error in errors:
        where = f"node {error.node()} {error.node_name() or '(no name)'} ({error.node_operator() or 'no operator'})"
        lines.append(f"{where}: {' '.join(error.desc().split())}")
    return f"{model}: the parser of {flavour.title} refuses the graph: " + ("; ".join(lines) or "it gives no reason")


def _tensors(trt_module: Any, network: trt.INetworkDefinition, names: Sequence[str]) -> tuple[EngineTensor, ...]:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    by_name = {t.name: t for t in (*inputs, *(network.get_output(i) for i in range(network.num_outputs)))}
    missing = [name for name in names if name not in by_name]
    check(not missing, f"the network has the tensors {', '.join(by_name)}; missing {', '.join(missing)}")
    return tuple(
        EngineTensor(
            name,
            name,
            str(numpy_dtype(trt_module, by_name[name].dtype, name)),
            shape_of(by_name[name].shape),
        )
        for name in names
    )

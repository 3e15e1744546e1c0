"""INT8 after training: Q/DQ around convolutions, symmetric, one scale per output channel of a weight.

Ranges are measured by onnxruntime's quantisation on prepared images; the graph it writes is then tidied here and
brought into one of two encodings (:mod:`aweigh.export.precision.encoding`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from aweigh.export.graph.layers import convolutions, is_below
from aweigh.export.precision.bias import channel_means
from aweigh.export.precision.tidy import tidy
from aweigh.runtime.atomic import temporary_folder
from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.train.process.console import track

# Logits, distances and offsets are what the tail computes boxes and scores from; they stay as the network made them.
# "method" holds convolutions whose outputs are logits too (ALA's foreground).
HEAD_OUTPUTS = ("head.outputs", "method")
# Least and largest value. See the README for what percentiles and entropy gave instead.
_METHOD = CalibrationMethod.MinMax


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """One image at a time, repeated where the file takes no smaller batch."""

    def __init__(self, images_u8: Sequence[npt.NDArray[np.uint8]], batch: int) -> None:
        feeds = ({INPUT_NAME: image[None].repeat(batch, axis=0)} for image in images_u8)
        self._feeds = track(feeds, "calibrate", total=len(images_u8))

    def get_next(self) -> Any:
        return next(self._feeds, None)


def quantized(
    model: ir.Model, images_u8: Sequence[npt.NDArray[np.uint8]], batch: int, keep_high: Collection[str] = ()
) -> ir.Model:
    """The graph with all convolutions except the head's outputs and ``keep_high`` in int8, before its encoding.

    Weights stay float with Q and DQ behind them, all zero points are int8 0, biases float: TensorRT's parser takes it.

    Args:
        model: FP32, as traced; left as it is.
        images_u8: [H, W, 3] network inputs to measure the ranges on.
        batch: smallest that the graph takes.
        keep_high: layers or folders of layers; :func:`aweigh.export.graph.layers.require_layers` checks the names.
    """
    high = (*HEAD_OUTPUTS, *keep_high)
    excluded = [
        node.name for layer, node in convolutions(model.graph) if any(is_below(layer, folder) for folder in high)
    ]
    with temporary_folder() as folder, _silent():
        source, path = folder / "float.onnx", folder / "quantized.onnx"
        onnx.save(ir.to_proto(model), source)  # given a model in memory, it moves the weights out of it
        quantize_static(
            source,
            path,
            _Images(images_u8, batch),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
            calibrate_method=_METHOD,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": True,
                "QuantizeBias": False,
            },
        )
        result = ir.from_proto(onnx.load(path))
    result.metadata_props.clear()  # its own notes
    read = [node.inputs[0].name for _, node in convolutions(model.graph) if node.inputs[0] and node.inputs[0].name]
    tidy(result, channel_means(model, read, images_u8, batch))
    return result


@contextmanager
def _silent() -> Iterator[None]:
    """onnxruntime recommends, through the root logger, a preprocessing that this graph has had in its own way."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

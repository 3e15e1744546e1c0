"""INT8 after training: Q/DQ around convolutions, symmetric, one scale per output channel of a weight.

Ranges are measured by onnxruntime's quantisation on prepared pictures; the graph it writes is then tidied here and
brought into one of two encodings of the same integers (:mod:`aweigh.export.precision.encoding`).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from aweigh.export.graph.layers import convolutions, is_below, require_layers
from aweigh.export.precision.encoding import tidy
from aweigh.runtime.backends.base import INPUT_NAME

# Logits, distances and offsets are what the tail computes boxes and scores from; they stay as the network made them.
# "method" holds convolutions whose outputs are logits too (ALA's foreground).
HEAD_OUTPUTS = ("head.outputs", "method")
# Least and largest value. See the README for what percentiles and entropy gave in its place.
_METHOD = CalibrationMethod.MinMax


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """One picture a time, repeated where the file takes no smaller batch."""

    def __init__(self, images_u8: Sequence[npt.NDArray[np.uint8]], batch: int) -> None:
        self._feeds = iter([{INPUT_NAME: image[None].repeat(batch, axis=0)} for image in images_u8])

    def get_next(self) -> Any:
        return next(self._feeds, None)


def quantized(
    model: onnx.ModelProto, pictures_u8: Sequence[npt.NDArray[np.uint8]], batch: int, keep_high: Collection[str] = ()
) -> onnx.ModelProto:
    """The graph with all convolutions but the head's outputs and ``keep_high`` in int8, for TensorRT's parser.

    Weights stay float with Q and DQ behind them, all zero points are int8 0, biases float.

    Args:
        model: FP32, as traced.
        pictures_u8: [H, W, 3] network inputs to measure the ranges on.
        batch: smallest that the graph takes.
        keep_high: layers or folders of layers.

    Raises:
        BadInput: a layer that does not exist.
    """
    layers = list(convolutions(model.graph))
    require_layers(keep_high, [layer for layer, _ in layers])
    high = (*HEAD_OUTPUTS, *keep_high)
    excluded = [node.name for layer, node in layers if any(is_below(layer, folder) for folder in high)]
    with tempfile.TemporaryDirectory() as folder, _silent():
        source, path = Path(folder) / "float.onnx", Path(folder) / "quantized.onnx"
        onnx.save(model, source)  # given a model in memory, it moves the weights out of it
        quantize_static(
            source,
            path,
            _Pictures(pictures_u8, batch),
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
        result = onnx.load(path)
    del result.metadata_props[:]  # its own notes
    tidy(result)
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

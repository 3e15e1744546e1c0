"""Biases that make up for what rounding the weights shifts.

A weight that was rounded by d adds d times its input to every sum. Where inputs are positive, as behind a relu, that
shifts the whole channel, which the layers behind take for signal. Its mean over the calibration images is known, and is
taken off the bias: the file is as fast and as large as without.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from aweigh.runtime.backends.base import INPUT_NAME


def shifts(
    weight: npt.NDArray[Any], rounded: npt.NDArray[Any], means: npt.NDArray[Any], groups: int
) -> npt.NDArray[np.float64]:
    """[O] by how much the mean output of each channel of a convolution rises where its weight is rounded.

    Args:
        weight, rounded: [O, I / groups, ...].
        means: [I] mean of each input channel.
        groups: of the convolution.

    Example:
        >>> shifts(np.full((1, 1, 3, 3), 0.9), np.ones((1, 1, 3, 3)), np.array([2.0]), 1).round(3).tolist()
        [1.8]
    """
    difference = (rounded.astype(np.float64) - weight).sum(axis=tuple(range(2, weight.ndim)))  # [O, I / groups]
    of_group = means.reshape(groups, -1).repeat(len(weight) // groups, axis=0)  # [O, I / groups]
    return np.asarray((difference * of_group).sum(axis=1))


def channel_means(
    model: ir.Model, names: Collection[str], images_u8: Sequence[npt.NDArray[np.uint8]], batch: int
) -> dict[str, npt.NDArray[np.float64]]:
    """[C] mean of each channel over all images, of tensors [B, C, H, W] by name.

    Args:
        model: FP32, as traced; left as it is.
        images_u8: [H, W, 3] network inputs.
        batch: smallest that the graph takes.
    """
    tapped = model.clone()
    graph = tapped.graph
    axes = ir.val("axes_of_means", const_value=ir.tensor(np.array([0, 2, 3], np.int64), name="axes_of_means"))
    graph.register_initializer(axes)
    values = {value.name: value for node in graph for value in node.outputs}
    chosen = [name for name in dict.fromkeys(names) if name in values]
    outputs = [f"mean_{position}" for position in range(len(chosen))]
    for name, output in zip(chosen, outputs, strict=True):
        # Reduced within the graph: together the tensors of a large network fill the memory.
        mean = ir.val(output, ir.DataType.FLOAT)
        graph.append(ir.node("ReduceMean", [values[name], axes], {"keepdims": 0}, outputs=[mean], name=output))
        graph.outputs.append(mean)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    content = ir.to_proto(tapped).SerializeToString()
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    sums = [np.zeros(1) for _ in chosen]
    for image in images_u8:
        means = session.run(outputs, {INPUT_NAME: image[None].repeat(batch, axis=0)})
        sums = [total + mean.astype(np.float64) for total, mean in zip(sums, means, strict=True)]
    return {name: total / len(images_u8) for name, total in zip(chosen, sums, strict=True)}

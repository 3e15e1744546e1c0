"""From what a user asks for to a lowering: whether the options go together, and the calibration images of int8."""

from __future__ import annotations

from aweigh.export.precision.calibration import CALIBRATION_IMAGES, MISSING, calibration_images
from aweigh.export.precision.encoding import Encoding
from aweigh.export.precision.lowering import Lowering
from aweigh.export.precision.table import graph_precision
from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import ModelSpec
from aweigh.train.data.open import load_split_of


def choose_lowering(
    spec: ModelSpec,
    data: str | None,
    keep_high: tuple[str, ...] = (),
    calib: int | None = None,
    encoding: Encoding | None = None,
    for_engine: bool = False,
    outside_images: bool = False,
    seed: int | None = None,
) -> Lowering:
    """The lowering of an export; reads the calibration images of int8.

    Args:
        data: data set whose split ``train`` int8 is calibrated on.
        calib: number of images; None is the default.
        encoding: None is that of the target.
        for_engine: whether TensorRT will run the graph, or ONNX Runtime.
        outside_images: as for ``load_split``.
        seed: draws the calibration images; None takes them evenly spaced.

    Raises:
        BadInput: options that do not go together, or that lack another.
    """
    precision = graph_precision(spec.precision)
    if not (precision.comparable_here or for_engine):
        raise BadInput(
            f"--precision {precision.name}: is for engines; ONNX Runtime has no bfloat16 convolution on a CPU, so that "
            "nothing could be compared here. Take --precision fp16, which TensorRT runs as fast"
        )
    if not precision.lowers and keep_high:
        raise BadInput(f"--keep-high {','.join(keep_high)}: with --precision {precision.name} every layer is kept high")
    if not precision.calibrated:
        for flag, value in (("--calib", calib), ("--int8-encoding", encoding)):
            if value is not None:
                raise BadInput(f"{flag} {value}: belongs to --precision int8, got --precision {precision.name}")
        return Lowering(keep_high)
    if data is None:
        raise BadInput(f"--precision {precision.name}: {MISSING}")
    if calib is not None and calib < 1:
        raise BadInput(f"--calib {calib}: expected at least 1 image")
    split = load_split_of(spec, data, "train", outside_images=outside_images)
    calibration = calibration_images(split, spec.input, calib or CALIBRATION_IMAGES, seed)
    return Lowering(keep_high, encoding or ("tensorrt" if for_engine else "onnxruntime"), calibration)

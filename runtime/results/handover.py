"""Detections as other libraries hold them: pandas, supervision, FiftyOne. Each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import CannotRun


def data_frame(
    xyxy: npt.NDArray[np.float32], conf: npt.NDArray[np.float32], cls: npt.NDArray[np.int64], names: Mapping[int, str]
) -> Any:
    """A ``pandas.DataFrame`` with a row per object. Raises CannotRun where pandas is not installed.

    Args:
        xyxy: [N, 4], pixels of the image.
        conf: [N], 0 to 1.
        cls: [N], keys of ``names``.
    """
    try:
        import pandas  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ModuleNotFoundError as error:
        raise CannotRun("to_pandas needs the package pandas: pip install pandas") from error
    sides = dict(zip(("xmin", "ymin", "xmax", "ymax"), xyxy.T, strict=True))
    labels = np.array([names[i] for i in cls.tolist()], dtype=object)
    return pandas.DataFrame({**sides, "confidence": conf, "class": cls, "name": labels})


def supervision_detections(
    xyxy: npt.NDArray[np.float32], conf: npt.NDArray[np.float32], cls: npt.NDArray[np.int64], names: Mapping[int, str]
) -> Any:
    """A ``supervision.Detections``; arguments as of :func:`data_frame`. Raises CannotRun where it is not installed."""
    try:
        import supervision  # type: ignore[import-not-found,unused-ignore]
    except ModuleNotFoundError as error:
        raise CannotRun("to_supervision needs the package supervision: pip install supervision") from error
    labels = np.array([names[i] for i in cls.tolist()], dtype=str)
    return supervision.Detections(xyxy=xyxy, confidence=conf, class_id=cls, data={"class_name": labels})


def fiftyone_detections(
    xyxy: npt.NDArray[np.float32],
    conf: npt.NDArray[np.float32],
    cls: npt.NDArray[np.int64],
    names: Mapping[int, str],
    orig_shape: tuple[int, int],
) -> Any:
    """A ``fiftyone.Detections``, whose boxes are left, top, width and height as shares of the image's sides.

    Args:
        orig_shape: (height, width) of the image; the others as of :func:`data_frame`.

    Raises:
        CannotRun: FiftyOne is not installed.
    """
    try:
        import fiftyone  # type: ignore[import-not-found,unused-ignore]
    except ModuleNotFoundError as error:
        raise CannotRun("to_fiftyone needs the package fiftyone: pip install fiftyone") from error
    height, width = orig_shape
    boxes = xyxy.astype(np.float64) / [width, height, width, height]
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(cls.tolist(), boxes.tolist(), conf.tolist(), strict=True)
    return fiftyone.Detections(
        detections=[
            fiftyone.Detection(label=names[class_id], bounding_box=box, confidence=score)
            for class_id, box, score in rows
        ]
    )

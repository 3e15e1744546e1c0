"""How a graph is brought below float32: what the name of the precision leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aweigh.export.precision.calibration import Calibration
from aweigh.export.precision.encoding import Encoding


@dataclass(frozen=True)
class Lowering:
    """What ``ModelSpec.precision`` leaves open.

    Attributes:
        keep_high: layers, or folders of layers, that stay in FP32.
        encoding: of int8.
        calibration: of int8.
    """

    keep_high: tuple[str, ...] = ()
    encoding: Encoding = "onnxruntime"
    calibration: Calibration | None = None

    def to_dict(self) -> dict[str, Any]:
        """What the exported file notes about it: nothing where no ranges were measured."""
        if self.calibration is None:
            return {}
        return {"encoding": self.encoding, "calibration": self.calibration.to_dict()}

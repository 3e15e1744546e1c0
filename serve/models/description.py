"""What clients can learn of a model: its classes and thresholds, and its tensors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.images.shown_classes import shown_classes
from aweigh.runtime.spec import ModelSpec
from aweigh.serve.tensors import DATATYPES

_ANY = -1  # of the Open Inference Protocol: any number


@dataclass(frozen=True)
class ModelDescription:
    """A served model, as ``GET /v1/models`` shows it.

    Attributes:
        version: first digits of the file's sha256.
        device: what executes the network.
        batch: smallest and largest number of images that go through the network together.
    """

    name: str
    version: str
    spec: ModelSpec
    device: str
    batch: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        spec = self.spec
        height, width = spec.input.size_hw
        return {
            "name": self.name,
            "version": self.version,
            "precision": spec.precision,
            "device": self.device,
            "input": {"height": height, "width": width, "resize": spec.input.resize},
            "batch": list(self.batch),
            "score_threshold": spec.post.score_threshold,
            "max_detections": spec.post.max_det,
            "classes": [shown.to_dict() for shown in shown_classes(spec)],
        }


@dataclass(frozen=True)
class TensorMetadata:
    """One tensor, as the Open Inference Protocol describes it; -1 in a shape is any number."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"shape": list(self.shape)}


@dataclass(frozen=True)
class ModelMetadata:
    """A served model, as the Open Inference Protocol describes it."""

    name: str
    version: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]

    @classmethod
    def of(cls, name: str, version: str, spec: ModelSpec) -> ModelMetadata:
        """The tensors of a file with this contract."""
        low, high = spec.batch
        batch = low if low == high else _ANY
        height, width = (_ANY, _ANY) if spec.input.dynamic_size else spec.input.size_hw
        # A file whose outputs have axes without numbers (``--post raw``) is not served.
        outputs = (
            TensorMetadata(o.name, DATATYPES[o.dtype], (batch, *(axis for axis in o.axes if isinstance(axis, int))))
            for o in spec.post.outputs
        )
        return cls(name, version, (TensorMetadata(INPUT_NAME, "UINT8", (batch, height, width, 3)),), tuple(outputs))

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "aweigh",
            "inputs": [tensor.to_dict() for tensor in self.inputs],
            "outputs": [tensor.to_dict() for tensor in self.outputs],
        }

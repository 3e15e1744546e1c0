"""BuildSummary: what a receipt says of a build by the real library."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.audit import Audit
from aweigh.runtime.files.digest import receipt_path
from aweigh.runtime.files.engine import EngineFile, EngineTensor
from aweigh.runtime.files.flavours import FLAVOURS, FlavourName
from aweigh.runtime.files.reading import read_once
from aweigh.runtime.json_text import parse_json


@dataclass(frozen=True)
class BuildSummary:
    """An ONNX file that TensorRT parsed, audited and built.

    Attributes:
        flavour, version: of the library.
        targets: compute capabilities that were built for.
        tensors: inputs and outputs of the network, with their types and shapes (-1: any number).
        audit: layers by precision, seconds and warnings; every convolution was compared with the ONNX file.
        plan_bytes: size of the engine; plan_sha256: its hash, None where it was not written.
    """

    flavour: FlavourName
    version: str
    targets: tuple[str, ...]
    tensors: tuple[EngineTensor, ...]
    audit: Audit
    plan_bytes: int
    plan_sha256: str | None = None

    @classmethod
    def of(cls, engine: EngineFile) -> BuildSummary | None:
        """From the sidecar; None for one without an audit."""
        if engine.audit is None:
            return None
        targets = engine.targets or (engine.built.compute_capability,)
        return cls(
            engine.flavour,
            engine.built.tensorrt,
            targets,
            engine.tensors,
            engine.audit,
            engine.plan_bytes,
            engine.plan_sha256,
        )

    @property
    def library(self) -> str:
        """Name and version."""
        return f"{FLAVOURS[self.flavour].title} {self.version}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values, the section ``tensorrt`` of a receipt."""
        inputs = [asdict(tensor) for tensor in self.tensors if tensor.name == INPUT_NAME]
        return {
            "library": self.library,
            "flavour": self.flavour,
            "parsed": True,
            "built_for": list(self.targets),
            **asdict(self.audit),
            "layers": [asdict(count) for count in self.audit.layers],
            "warnings": list(self.audit.warnings),
            "inputs": inputs,
            "outputs": [asdict(tensor) for tensor in self.tensors if tensor.name != INPUT_NAME],
            "bytes": self.plan_bytes,
            "sha256": self.plan_sha256,
        }


def add_to_receipt(model: Path, model_sha256: str, summary: BuildSummary) -> bool:
    """Write the section into the receipt next to an ONNX file.

    Returns:
        Whether there is a receipt about these very bytes; any other is left as it is.
    """
    path = receipt_path(model)
    try:
        content = parse_json(read_once(path, "receipt"), str(path))
    except BadInput:
        return False
    if not isinstance(content, dict) or content.get("sha256") != model_sha256:
        return False
    content["tensorrt"] = summary.to_dict()
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return True

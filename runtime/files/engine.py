"""EngineFile: what is known of a TensorRT plan, ``NAME.engine.json`` next to ``NAME.engine``.

A plan has no room for our contract and stays as TensorRT wrote it, so that trtexec and Triton load it as it is. The
sidecar is bound to the very bytes of the plan by their SHA-256. Standard library only: no TensorRT is needed to read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.audit import Audit
from aweigh.runtime.files.fingerprint import Fingerprint, HardwareLevel
from aweigh.runtime.files.flavours import FlavourName
from aweigh.runtime.files.reading import read_once
from aweigh.runtime.files.shape_ranges import ShapeProfile
from aweigh.runtime.json_text import parse_json
from aweigh.runtime.spec import ModelSpec
from aweigh.runtime.values import build, shown

SIDECAR_SCHEMA = "1.3"
PLAN_SUFFIXES = (".engine", ".plan")


@dataclass(frozen=True)
class BuildSettings:
    """How the builder was set.

    Attributes:
        workspace_bytes: scratch memory it might use; None for all of the device.
        builder_level: 0 (quick) to 5 (thorough); None for a library with one effort of building.
        tf32: whether FP32 convolutions might drop to TF32; off, or FP32 would not be FP32.
        version_compatible: whether newer TensorRT of the same major number takes the plan; it then carries host code.
        hardware_compatible: which other GPUs take it.
        timing_cache: whether measurements of earlier builds were used.
    """

    workspace_bytes: int | None = None
    builder_level: int | None = 3
    tf32: bool = False
    version_compatible: bool = False
    hardware_compatible: HardwareLevel = "none"
    timing_cache: bool = False


@dataclass(frozen=True)
class EngineTensor:
    """An input or output: its name in the contract; its name, numpy type and shape in the plan (-1: any number)."""

    name: str
    plan_name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class PrecisionShare:
    """What one precision has of an engine: ``layers``, ``weights`` (elements) and ``bytes`` (weights and layer
    outputs), as counts and as shares, 0 to 1, of those whose precision is known.
    """

    precision: str
    layers: int
    layer_share: float
    weights: int
    weight_share: float
    bytes: int
    byte_share: float


@dataclass(frozen=True)
class EngineFile:
    """The sidecar.

    Attributes:
        plan_sha256, plan_bytes: of the plan it is about.
        spec: the contract of the model.
        built: TensorRT, GPU and driver of the build.
        profiles: in the plan's order.
        tensors: inputs and outputs.
        precision: what the engine inspector said after the build; empty for a build without a GPU.
        unknown_layers: layers whose precision it did not report.
        parents: ``onnx_sha256`` or ``checkpoint_sha256`` of what the plan was built from.
        via: through which front end.
        golden: the text of the golden images (see ``golden.decode_golden``), as the ONNX file had it; None without.
        flavour: the library that built the plan and runs it; sidecars before schema 1.2 are of ``tensorrt``.
        targets: compute capabilities that it was built for, where they were named; empty for the GPU of ``built``.
        audit: what the builder was asked to compute, see ``Audit``; None where there was no ONNX file, and before
            schema 1.2.
        branches: whether the graph has a branch that depends on the data (the operator If), which no CUDA graph holds;
            before schema 1.3 it is not known, and said to be false.
    """

    plan_sha256: str
    plan_bytes: int
    spec: ModelSpec
    built: Fingerprint
    profiles: tuple[ShapeProfile, ...]
    settings: BuildSettings
    tensors: tuple[EngineTensor, ...]
    precision: tuple[PrecisionShare, ...] = ()
    unknown_layers: int = 0
    parents: Mapping[str, str] = field(default_factory=dict)
    via: Literal["onnx", "torch-trt"] = "onnx"
    golden: str | None = None
    flavour: FlavourName = "tensorrt"
    targets: tuple[str, ...] = ()
    audit: Audit | None = None
    branches: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"schema": SIDECAR_SCHEMA, **asdict(self), "spec": self.spec.to_dict()}


def is_engine(path: str | os.PathLike[str]) -> bool:
    """Whether the name is that of a TensorRT plan."""
    return Path(path).suffix in PLAN_SUFFIXES


def sidecar_path(plan: str | os.PathLike[str]) -> Path:
    """``best.engine.json`` next to ``best.engine``."""
    plan = Path(plan)
    return plan.with_name(plan.name + ".json")


def write_engine(plan: bytes, path: Path, engine: EngineFile) -> None:
    """Write plan and sidecar, each whole or not at all; the plan first, so that no sidecar speaks of a missing one.

    Between the two a reader finds a plan whose hash is not the sidecar's, and refuses it.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(plan)
    with atomic_write(sidecar_path(path)) as temporary:
        temporary.write_text(json.dumps(engine.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_sidecar(path: str | os.PathLike[str]) -> EngineFile:
    """The sidecar of a plan; the plan itself is not read.

    Raises:
        BadInput: no such plan, no sidecar, or a sidecar that is broken or of another major schema version.
    """
    path = Path(path)
    if not path.is_file():
        kind = "no such model file" if not path.exists() else "expected a plan, this is a folder, a pipe or a device"
        raise BadInput(f"{path}: {kind}")
    sidecar = sidecar_path(path)
    if not sidecar.exists():
        raise BadInput(
            f"{path}: there is no {sidecar.name} next to it, which holds classes, preprocessing and post-processing; "
            "copy both files, or build the engine with aweigh export --format engine"
        )
    content = parse_json(read_once(sidecar, "sidecar"), str(sidecar), "copy or build the engine again")
    if not isinstance(content, dict):
        raise BadInput(f"{sidecar}: expected a JSON object, got {type(content).__name__}")
    schema = content.pop("schema", None)
    if not isinstance(schema, str) or schema.split(".")[0] != SIDECAR_SCHEMA.split(".")[0]:
        raise BadInput(
            f"{sidecar}: schema {shown(schema)}, this aweigh reads {SIDECAR_SCHEMA!r} (same major version); "
            "use the aweigh that built the engine, or build it again"
        )
    try:
        spec = ModelSpec.from_dict(content.get("spec"))
        rest = {**content, "spec": {k: v for k, v in spec.to_dict().items() if k != "schema"}}
        engine: EngineFile = build(EngineFile, rest, "engine sidecar")
    except BadInput as error:
        raise BadInput(f"{sidecar}: {error}") from error
    if not engine.profiles:
        raise BadInput(f"{sidecar}: no profiles; build the engine again")
    return engine


def read_plan(path: str | os.PathLike[str], engine: EngineFile) -> bytes:
    """The plan's bytes. Raises BadInput where they are not those that the sidecar speaks of."""
    content = read_once(path, "plan")
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != engine.plan_sha256:
        raise BadInput(
            f"{path}: truncated, changed, or not the plan of its sidecar: {len(content)} bytes with sha256 "
            f"{sha256[:12]}..., {sidecar_path(path).name} speaks of {engine.plan_bytes} bytes with "
            f"{engine.plan_sha256[:12]}...; copy both files again"
        )
    return content

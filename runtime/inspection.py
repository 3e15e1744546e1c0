"""ModelFacts: what a model file says of itself, and what the receipt next to it says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import receipt_path
from aweigh.runtime.files.engine import EngineFile, is_engine, read_plan, read_sidecar, sidecar_path
from aweigh.runtime.files.golden import GOLDEN_KEY
from aweigh.runtime.files.onnx import OnnxFile, read_onnx
from aweigh.runtime.files.reading import read_once
from aweigh.runtime.json_text import parse_json
from aweigh.runtime.spec import PRECISION_KEY, ModelSpec

_ENGINE_FACTS = (
    "flavour",
    "built",
    "targets",
    "profiles",
    "settings",
    "audit",
    "precision",
    "unknown_layers",
    "parents",
    "via",
)


@dataclass(frozen=True)
class TensorFacts:
    """An input or output: its name, the library's name of its type, its shape (a text or -1 is any number)."""

    name: str
    type: str
    shape: tuple[int | str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"name": self.name, "type": self.type, "shape": list(self.shape)}


@dataclass(frozen=True)
class GraphFacts:
    """The graph of an ONNX file.

    Attributes:
        producer: name and version of the program that wrote it.
        opsets: version by operator domain.
        nodes: how many operators it has.
        operators: how many of each type, the commonest first.
    """

    producer: str
    ir_version: int
    opsets: Mapping[str, int]
    nodes: int
    operators: Mapping[str, int]


@dataclass(frozen=True)
class ReceiptFacts:
    """The receipt next to the file.

    Attributes:
        file: its path.
        verdict: ``passed`` or ``failed``.
        sha256_matches: whether it is about the bytes of this very file.
        parent_matches: whether it is about the ONNX file that an engine was built from.
    """

    file: str
    verdict: str | None
    sha256_matches: bool
    parent_matches: bool


@dataclass(frozen=True)
class ModelFacts:
    """A model file.

    Attributes:
        file: its path.
        bytes: its size.
        sha256: of its bytes.
        inputs, outputs: the graph's.
        spec: classes, preprocessing and post-processing.
        receipt: None where there is no receipt.
        graph: of an ONNX file; None for an engine.
        precision: what the export noted on its precision, as JSON; None for fp32 and for an engine.
        metadata: names of the metadata entries of an ONNX file.
        engine: the sidecar of a TensorRT engine; None for an ONNX file.
        golden: the text of its golden images, see :func:`~aweigh.runtime.files.golden.decode_golden`; None without.
    """

    file: Path
    bytes: int
    sha256: str
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    spec: ModelSpec
    receipt: ReceiptFacts | None
    graph: GraphFacts | None = None
    precision: Mapping[str, Any] | None = None
    metadata: tuple[str, ...] = ()
    engine: EngineFile | None = None
    golden: str | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as ``aweigh inspect --json`` prints them."""
        facts: dict[str, Any] = {
            "file": str(self.file),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "inputs": [tensor.to_dict() for tensor in self.inputs],
            "outputs": [tensor.to_dict() for tensor in self.outputs],
            "spec": self.spec.to_dict(),
        }
        if self.engine is not None:
            sidecar = self.engine.to_dict()
            about = {name: sidecar[name] for name in _ENGINE_FACTS}
            facts["engine"] = {"sidecar": str(sidecar_path(self.file)), **about}
        if self.graph is not None:
            facts["graph"] = asdict(self.graph)
            facts["precision"] = None if self.precision is None else dict(self.precision)
            facts["metadata"] = list(self.metadata)
        facts["receipt"] = None if self.receipt is None else asdict(self.receipt)
        return facts


def inspect_model(path: str | os.PathLike[str]) -> ModelFacts:
    """Read what an ONNX file or a TensorRT engine says of itself. An engine needs no TensorRT for that.

    Raises:
        BadInput: a file that ``Detector`` cannot open, an engine that is not the one of its sidecar, or a broken
            receipt.
        CannotRun: an ONNX file where ONNX Runtime is not installed.

    Example:
        >>> facts = inspect_model(model_path)
        >>> facts.spec.input.size_hw, [tensor.name for tensor in facts.inputs], facts.receipt
        ((64, 96), ['images'], None)
    """
    path = Path(path)
    return _inspect_engine(path) if is_engine(path) else _inspect_onnx(path)


def _inspect_engine(path: Path) -> ModelFacts:
    engine = read_sidecar(path)
    size = len(read_plan(path, engine))
    tensors = [TensorFacts(t.name, t.dtype, t.shape) for t in engine.tensors]
    return ModelFacts(
        file=path,
        bytes=size,
        sha256=engine.plan_sha256,
        inputs=tuple(t for t in tensors if t.name == INPUT_NAME),
        outputs=tuple(t for t in tensors if t.name != INPUT_NAME),
        spec=engine.spec,
        receipt=_receipt(path, engine.plan_sha256, engine.parents.get("onnx_sha256")),
        engine=engine,
        golden=engine.golden,
    )


def _inspect_onnx(path: Path) -> ModelFacts:
    parsed = read_onnx(path)
    with OnnxRuntimeBackend(path, threads=1, parsed=parsed) as backend:
        spec, session = backend.spec, backend.session
        inputs, outputs = (
            tuple(TensorFacts(t.name, t.type, tuple(t.shape)) for t in tensors)
            for tensors in (session.get_inputs(), session.get_outputs())
        )
    return ModelFacts(
        file=path,
        bytes=len(parsed.content),
        sha256=parsed.sha256,
        inputs=inputs,
        outputs=outputs,
        spec=spec,
        receipt=_receipt(path, parsed.sha256),
        graph=_graph(parsed),
        precision=_precision(path, parsed.metadata.get(PRECISION_KEY)),
        metadata=tuple(sorted(parsed.metadata)),
        golden=parsed.metadata.get(GOLDEN_KEY),
    )


def _graph(parsed: OnnxFile) -> GraphFacts:
    operators = dict(Counter(node.op_type for node in parsed.nodes).most_common())
    return GraphFacts(parsed.producer, parsed.ir_version, parsed.opsets, len(parsed.nodes), operators)


def _precision(model: Path, text: str | None) -> dict[str, Any] | None:
    """What the export noted on its precision; None for fp32."""
    if text is None:
        return None
    note = parse_json(text, f"{model}: metadata entry {PRECISION_KEY!r}", "export it again")
    if not isinstance(note, dict):
        raise BadInput(f"{model}: metadata entry {PRECISION_KEY!r}: expected an object; export it again")
    return note


def _receipt(model: Path, sha256: str, parent_sha256: str | None = None) -> ReceiptFacts | None:
    path = receipt_path(model)
    if not path.is_file():
        return None
    content = parse_json(read_once(path, "receipt"), str(path), "remove it or write it again with aweigh verify")
    verdict, about = (content.get(name) if isinstance(content, dict) else 0 for name in ("verdict", "sha256"))
    if not isinstance(verdict, str | None) or not isinstance(about, str | None):
        raise BadInput(
            f"{path}: expected a JSON object with the texts verdict and sha256; remove it or write it again with "
            "aweigh verify"
        )
    of_parent = parent_sha256 is not None and about == parent_sha256
    return ReceiptFacts(str(path), verdict, about == sha256, of_parent)

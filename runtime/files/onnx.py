"""What stands in an ONNX file, read without the onnx package: metadata, versions, nodes. Weights are skipped.

ONNX is a protobuf message; the few fields needed here are walked in its wire format (field numbers of onnx.proto).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.reading import read_once
from aweigh.runtime.spec import METADATA_KEY, ModelSpec

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Node:
    """One operator of the graph; ``inputs`` and ``outputs`` are tensor names."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file, read once: its bytes, and what stands in them besides the weights.

    Attributes:
        content: the bytes of the file; what opens the network takes them, not the path.
        sha256: of ``content``, 64 hexadecimal digits.
        opsets: version of each operator domain; the standard one is ``ai.onnx``.
        metadata: the file's metadata_props.
        nodes: of the main graph, in the order of the file; bodies of loops and branches are left out.
        initializers: element type of each constant of the main graph, as ONNX numbers it (1 is float32).
    """

    content: bytes = dataclasses.field(repr=False)
    sha256: str
    ir_version: int
    producer: str
    opsets: dict[str, int]
    metadata: dict[str, str]
    nodes: tuple[Node, ...]
    initializers: Mapping[str, int]

    def spec(self, path: str | os.PathLike[str]) -> ModelSpec:
        """The contract in the metadata; ``path`` is for the message. Raises BadInput where it is missing or broken."""
        if METADATA_KEY not in self.metadata:
            raise BadInput(
                f"{path}: an ONNX file, but not one of aweigh's (no metadata entry {METADATA_KEY!r}); "
                "expected a file written by aweigh export"
            )
        try:
            return ModelSpec.from_json(self.metadata[METADATA_KEY])
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error


def read_onnx(path: str | os.PathLike[str]) -> OnnxFile:
    """Read an ONNX file, once.

    Raises:
        BadInput: no such file, or one that is no ONNX, was cut off, changes meanwhile, or keeps weights in other files.
    """
    path = Path(path)
    if path.suffix == ".pt" and path.is_file():  # the commonest mix-up
        raise BadInput(f"{path}: a checkpoint, expected an exported file; aweigh export --model {path} makes one")
    content = read_once(path, "model file")
    if not content:
        raise BadInput(f"{path}: the file is empty (0 bytes); copy or export it again")
    try:
        parsed = _model(content)
    except (ValueError, IndexError, RecursionError) as error:
        raise BadInput(f"{path}: no ONNX file, or a truncated or corrupt one ({error})") from error
    if not parsed.opsets or not parsed.nodes:
        raise BadInput(f"{path}: no ONNX file, or a truncated one: no graph in it")
    return parsed


def _model(content: bytes) -> OnnxFile:
    ir_version, producer, version = 0, "", ""
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    nodes: list[Node] = []
    initializers: dict[str, int] = {}
    for field, number, start, end in _fields(content, 0, len(content)):
        if field == 1:
            ir_version = number
        elif field == 2:
            producer = content[start:end].decode()
        elif field == 3:
            version = content[start:end].decode()
        elif field == 7:
            parts = [(f, s, e) for f, _, s, e in _fields(content, start, end)]
            nodes += [_node(content, s, e) for f, s, e in parts if f == 1]
            initializers |= dict(_initializer(content, s, e) for f, s, e in parts if f == 5)
        elif field == 8:
            opset = {f: (n, content[s:e].decode()) for f, n, s, e in _fields(content, start, end)}
            opsets[opset.get(1, (0, ""))[1] or "ai.onnx"] = opset.get(2, (0, ""))[0]
        elif field == 14:
            pair = {f: content[s:e].decode() for f, _, s, e in _fields(content, start, end)}
            metadata[pair.get(1, "")] = pair.get(2, "")
    return OnnxFile(
        content=content,
        sha256=hashlib.sha256(content).hexdigest(),
        ir_version=ir_version,
        producer=f"{producer} {version}".strip(),
        opsets=opsets,
        metadata=metadata,
        nodes=tuple(nodes),
        initializers=initializers,
    )


def _node(content: bytes, start: int, end: int) -> Node:
    texts: dict[int, list[str]] = {1: [], 2: [], 3: [""], 4: [""]}
    for field, _, s, e in _fields(content, start, end):
        if field in texts:
            texts[field].append(content[s:e].decode())
        elif field == 5:
            _require_inside(content, s, e)
    return Node(texts[3][-1], texts[4][-1], tuple(texts[1]), tuple(texts[2]))


def _require_inside(content: bytes, start: int, end: int) -> None:
    """Raises ValueError where a tensor of a node's attribute, or of a body in it, is in another file."""
    for field, _, s, e in _fields(content, start, end):
        if field in (5, 10):  # a tensor
            _initializer(content, s, e)
        elif field in (6, 11):  # a graph
            for part, _, s2, e2 in _fields(content, s, e):
                if part == 1:
                    _node(content, s2, e2)
                elif part == 5:
                    _initializer(content, s2, e2)


def _initializer(content: bytes, start: int, end: int) -> tuple[str, int]:
    """(name, element type) of a tensor, whose values are stepped over.

    Raises ValueError where they are in another file: the hash of this one would not cover them.
    """
    name, element = "", 0
    for field, number, s, e in _fields(content, start, end):
        if field == 2:
            element = number
        elif field == 8:
            name = content[s:e].decode()
        elif field == 13 or (field == 14 and number):
            raise ValueError(f"byte {s}: a weight in another file; expected all weights in this one")
    return name, element


def _fields(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, integer value, start, end of the bytes) of each field; the bytes are empty for integers."""
    position = start
    while position < end:
        key, position = _varint(content, position)
        field, wire = key >> 3, key & 7
        number = size = 0
        if wire == _VARINT:
            number, position = _varint(content, position)
        elif wire == _BYTES:
            size, position = _varint(content, position)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"byte {position}: wire type {wire}")
        if field == 0 or position + size > end:
            raise ValueError(f"byte {position}: a field runs past the end")
        yield field, number, position, position + size
        position += size


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"byte {position}: no end of a number")

"""What the server and a decoding process say to each other: small messages; image files and rows go by memory.

The server takes nothing from an answer on trust: a decoder that a hostile file has taken over may send anything.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass
from typing import Any

from aweigh.runtime.errors import BadInput, NotAnImage, TooLarge, Undecodable
from aweigh.runtime.spec import InputSpec

LARGEST_MESSAGE = 1 << 16
_ERRORS: dict[str, type[BadInput]] = {kind.__name__: kind for kind in (BadInput, NotAnImage, TooLarge, Undecodable)}


@dataclass(frozen=True)
class Order:
    """The first bytes of the shared memory are an image file of this size, to be prepared for this input."""

    file_bytes: int
    spec: InputSpec

    def to_bytes(self) -> bytes:
        return f"{self.file_bytes}\n{_spec_text(self.spec)}".encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Order:
        file_bytes, _, spec = data.partition(b"\n")
        return cls(int(file_bytes), _parse_spec(spec))


@dataclass(frozen=True)
class Prepared:
    """The rows lie in the shared memory, for an image of this size, height and width in pixels."""

    original_hw: tuple[int, int]
    decode_ms: float
    preprocess_ms: float

    def to_bytes(self) -> bytes:
        return json.dumps([*self.original_hw, self.decode_ms, self.preprocess_ms]).encode()


def refusal(error: BadInput) -> bytes:
    """The answer for an image that cannot be read."""
    kind = next(base.__name__ for base in type(error).__mro__ if base.__name__ in _ERRORS)
    return json.dumps({"error": kind, "text": str(error)[:2000]}).encode()


def parse_answer(data: bytes) -> Prepared:
    """Raises what the decoder raised: NotAnImage, TooLarge, Undecodable or BadInput; ValueError for no such answer."""
    content = json.loads(data)
    if isinstance(content, dict):
        raise _ERRORS.get(str(content.get("error")), Undecodable)(str(content.get("text")))
    height, width, decode_ms, preprocess_ms = content
    if not (isinstance(height, int) and isinstance(width, int)):
        raise ValueError(f"image of {width}x{height} pixels")
    return Prepared((height, width), float(decode_ms), float(preprocess_ms))


@functools.lru_cache(64)
def _spec_text(spec: InputSpec) -> str:
    return json.dumps(dataclasses.asdict(spec))


@functools.lru_cache(64)
def _parse_spec(text: bytes) -> InputSpec:
    values: dict[str, Any] = json.loads(text)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return InputSpec(**values)

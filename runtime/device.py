"""Device: where a network computes, parsed once at the edge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aweigh.runtime.errors import BadInput

Kind = Literal["auto", "cpu", "cuda", "gpu"]
_NUMBERED = ("cuda", "gpu")


@dataclass(frozen=True)
class Device:
    """A kind of device, and the number of one where a machine has several.

    Attributes:
        kind: ``cpu``; ``cuda``, an NVIDIA GPU; ``gpu``, as OpenVINO calls a GPU; ``auto``, to be chosen.
        index: counted from 0; None where no number was given.
    """

    kind: Kind
    index: int | None = None

    @classmethod
    def parse(cls, text: str | Device, kinds: Sequence[Kind] = ("cpu", "cuda"), user: str = "") -> Device:
        """``cpu``, ``cuda`` or ``cuda:1``.

        Args:
            text: what a user wrote; a Device is checked and returned.
            kinds: those that the caller can use.
            user: what needs it, for the error message: ``a TensorRT engine``.

        Raises:
            BadInput: another word, or a kind that is not in ``kinds``.

        Example:
            >>> Device.parse("cuda:1")
            Device(kind='cuda', index=1)
            >>> str(Device.parse("cpu"))
            'cpu'
        """
        match = re.fullmatch(r"(auto|cpu|cuda|gpu)(?::(\d{1,4}))?", str(text))
        if match is None or match[1] not in kinds or (match[2] and match[1] not in _NUMBERED):
            known = [form for kind in kinds for form in ((kind, f"{kind}:N") if kind in _NUMBERED else (kind,))]
            choices = " or ".join(filter(None, (", ".join(known[:-1]), known[-1])))
            raise BadInput(f"device {str(text)!r}: expected {choices}{f' for {user}' if user else ''}")
        return cls(match[1], int(match[2]) if match[2] else None)  # type: ignore[arg-type]

    @property
    def number(self) -> int:
        """The index, or 0."""
        return self.index or 0

    def __str__(self) -> str:
        return self.kind if self.index is None else f"{self.kind}:{self.index}"

"""Size: height and width of an image in pixels, parsed once at the edge."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from aweigh.runtime.errors import BadInput

SMALLEST_PX, LARGEST_PX = 32, 8192


class Size(NamedTuple):
    """Height and width in pixels, in this order."""

    height: int
    width: int

    @classmethod
    def parse(cls, text: str, flag: str = "--imgsz") -> Self:
        """``N`` or ``HxW`` (``H,W`` too), each side from 32 to 8192 pixels.

        Raises:
            BadInput: anything else; the message begins with ``flag``.

        Example:
            >>> Size.parse("288x384")
            Size(height=288, width=384)
            >>> str(Size.parse("320"))
            '320'
        """
        match = re.fullmatch(r"(\d{1,5})(?:[xX,](\d{1,5}))?", text.strip())
        if match:
            height = int(match[1])
            width = int(match[2] or height)
            if min(height, width) >= SMALLEST_PX and max(height, width) <= LARGEST_PX:
                return cls(height, width)
        raise BadInput(
            f"{flag} {text!r}: expected N or HxW, each from {SMALLEST_PX} to {LARGEST_PX} pixels, for example 320 or "
            "288x384"
        )

    def __str__(self) -> str:
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"

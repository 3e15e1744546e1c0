"""ShapeProfile: the range of input shapes that a part of an engine was optimised for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aweigh.runtime.errors import BadInput

Shape: TypeAlias = tuple[int, int, int, int]  # [B, H, W, 3]


@dataclass(frozen=True)
class ShapeProfile:
    """Smallest, preferred and largest shape [B, H, W, 3] of the network input; each axis ranges on its own."""

    min: Shape
    opt: Shape
    max: Shape

    def __post_init__(self) -> None:
        if not all(1 <= a <= b <= c for a, b, c in zip(self.min, self.opt, self.max, strict=True)):
            raise BadInput(f"profile {self}: expected 1 <= min <= opt <= max on every axis")

    @property
    def fixed(self) -> bool:
        """Whether it stands for one shape alone."""
        return self.min == self.max

    def covers(self, shape: Sequence[int]) -> bool:
        """Whether ``shape`` [B, H, W, 3] lies within."""
        return len(shape) == 4 and all(a <= n <= b for a, n, b in zip(self.min, shape, self.max, strict=True))

    def __str__(self) -> str:
        return f"{_written(self.min)} to {_written(self.max)}, best at {_written(self.opt)}"


def choose_profile(profiles: Sequence[ShapeProfile], shape: Sequence[int]) -> int:
    """Position of the profile to run ``shape`` [B, H, W, 3] with: of those that cover it the one nearest by ``opt``.

    Raises:
        BadInput: none covers it.
    """
    fitting = [i for i, profile in enumerate(profiles) if profile.covers(shape)]
    if not fitting:
        known = "; ".join(str(profile) for profile in profiles)
        raise BadInput(
            f"a batch of shape {_written(shape)}: this engine takes {known} (batch x height x width x 3); "
            "build it again from the ONNX file, exported with another --batch or --imgsz"
        )
    return min(fitting, key=lambda i: (sum(abs(a - b) for a, b in zip(profiles[i].opt, shape, strict=True)), i))


def _written(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))

"""Audit: in which types an engine's layers compute, read from the network that TensorRT's builder was given.

The network is strongly typed: the builder computes every layer in the types that the network says. So this is known
before the build, without a GPU, and exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

from aweigh.runtime.precision import PRECISIONS


@dataclass(frozen=True)
class LayerCount:
    """Layers that compute in one type.

    Attributes:
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8``, ``fp8``; ``integer`` for indices, sizes and truth values.
        convolutions, matrix_products: of ``layers``.
        layers: all, those two included.
    """

    precision: str
    convolutions: int
    matrix_products: int
    layers: int


@dataclass(frozen=True)
class Audit:
    """What a build was asked to compute, and what it cost.

    Attributes:
        layers: counts by precision, most convolutions first.
        warnings: of the library, while it parsed and built.
        parse_seconds, build_seconds: wall time; cpu_seconds: of all threads, parsing and building.
    """

    layers: tuple[LayerCount, ...]
    warnings: tuple[str, ...] = ()
    parse_seconds: float = 0.0
    build_seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def convolutions(self) -> dict[str, int]:
        """Convolutions by precision, without those that have none.

        Example:
            >>> Audit((LayerCount("int8", 41, 0, 60), LayerCount("integer", 0, 0, 9))).convolutions
            {'int8': 41}
        """
        return {count.precision: count.convolutions for count in self.layers if count.convolutions}

    @property
    def coarsest(self) -> str | None:
        """The coarsest precision of a convolution; None without convolutions."""
        ladder: tuple[str, ...] = PRECISIONS
        return min(self.convolutions, key=lambda name: ladder.index(name) if name in ladder else -1, default=None)

    def summary(self) -> str:
        """Convolutions, matrix products and all layers by precision, in one line."""
        parts = [
            f"{number} {what} in {count.precision}"
            for what in ("convolutions", "matrix_products")
            for count in self.layers
            if (number := getattr(count, what))
        ]
        return ", ".join(parts).replace("_", " ") or "no convolution"

"""Flavour: the two TensorRT libraries that build and run engines, and all in which they differ for a user.

``tensorrt`` is the full library: it builds for the GPU at hand, data-centre GPUs included. ``rtx``, TensorRT for RTX,
has the same programming interface; it builds on any machine, for GPUs that are only named, and compiles the kernels on
the GPU at the first run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from aweigh.runtime.errors import BadInput, install_advice

FlavourName = Literal["tensorrt", "rtx"]

# Compute capabilities by the generation's name. Jetsons of the Ampere generation (8.7) are not among RTX's targets.
GENERATIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"turing": ("7.5",), "ampere": ("8.0", "8.6"), "ada": ("8.9",), "blackwell": ("12.0", "12.1")}
)
# A plan for several GPUs is no larger than for one, except that Turing adds kernels of its own.
DEFAULT_GENERATIONS = ("ampere", "ada", "blackwell")


@dataclass(frozen=True)
class Flavour:
    """One TensorRT library.

    Attributes:
        name: the value of ``--flavour``.
        title: the product's name, for messages.
        modules: Python modules that hold it; the first one that is installed is used.
        lean_modules: modules that only run engines, taken where none of ``modules`` is installed.
        oldest: the oldest version that the code is written for.
        install: what a user types to install it.
        builds_without_gpu: whether engines are built on any machine, for GPUs that are named (``targets``).
        lacks: options of a build that the library does not have, with the reason, by flag.
        missing_operators: ONNX operators that it cannot build, with the way out.
    """

    name: FlavourName
    title: str
    modules: tuple[str, ...]
    oldest: tuple[int, int]
    install: str
    builds_without_gpu: bool = False
    lacks: Mapping[str, str] = field(default_factory=dict)
    missing_operators: Mapping[str, str] = field(default_factory=dict)
    lean_modules: tuple[str, ...] = ()


TENSORRT = Flavour(
    name="tensorrt",
    title="TensorRT",
    modules=("tensorrt",),
    oldest=(10, 13),
    install=f"{install_advice('trt11', 'trt10')} (11: driver for CUDA 13); one environment holds one of them",
    lean_modules=("tensorrt_lean_bindings", "tensorrt_lean"),
    lacks={"--gpus": "it builds for the GPU of this machine alone; --flavour rtx builds for GPUs that are only named"},
)
RTX = Flavour(
    name="rtx",
    title="TensorRT for RTX",
    modules=("tensorrt_rtx_bindings", "tensorrt_rtx"),
    oldest=(1, 7),
    install=install_advice("rtx"),
    builds_without_gpu=True,
    lacks={
        "--version-compatible": "its plans run with the very version that built them; leave the flag out",
        "--hardware-compatible": "the GPUs that a plan runs on are named by --gpus",
        "--timing-cache": "it measures nothing when it builds; kernels are compiled on the GPU at the first run",
        "--builder-level": "it has one effort of building; leave the flag out",
        "--device": "it builds without a device; the GPUs that a plan runs on are named by --gpus",
    },
    missing_operators={"NonMaxSuppression": "export the checkpoint with --nms matrix"},
)
FLAVOURS: Mapping[FlavourName, Flavour] = MappingProxyType({f.name: f for f in (TENSORRT, RTX)})


def parse_generations(text: str) -> tuple[str, ...]:
    """Compute capabilities of the generations in a list with commas, oldest first.

    Raises:
        BadInput: another word.

    Example:
        >>> parse_generations("ada,turing")
        ('7.5', '8.9')
    """
    names = text.split(",")
    unknown = [name for name in names if name not in GENERATIONS]
    if unknown:
        raise BadInput(f"--gpus {text!r}: expected one or more of {', '.join(GENERATIONS)}, with commas between")
    return tuple(c for name, capabilities in GENERATIONS.items() if name in names for c in capabilities)


def generation_of(capability: str) -> str | None:
    """The generation's name; None for a GPU that TensorRT for RTX does not build for.

    Example:
        >>> generation_of("8.9"), generation_of("9.0")
        ('ada', None)
    """
    return next((name for name, capabilities in GENERATIONS.items() if capability in capabilities), None)


def version_numbers(version: str, parts: int = 2) -> tuple[int, ...]:
    """The first numbers of a version.

    Example:
        >>> version_numbers("1.7.1.116")
        (1, 7)
    """
    return tuple(int(n) for n in re.findall(r"\d+", version)[:parts])

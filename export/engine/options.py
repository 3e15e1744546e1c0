"""EngineOptions: how an engine is built; what cannot go together is refused before any work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aweigh.export.engine.profiles import make_profiles
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.engine import BuildSettings
from aweigh.runtime.files.fingerprint import HardwareLevel
from aweigh.runtime.files.flavours import (
    DEFAULT_GENERATIONS,
    FLAVOURS,
    GENERATIONS,
    Flavour,
    FlavourName,
    parse_generations,
)
from aweigh.runtime.files.shape_ranges import ShapeProfile
from aweigh.runtime.spec import ModelSpec

# The oldest compute capability with arithmetic of a precision.
_OLDEST_CAPABILITY = {"bf16": (8, 0), "fp8": (8, 9)}
_DEFAULT_LEVEL = 3


@dataclass(frozen=True)
class EngineOptions:
    """The flags of ``aweigh export --format engine``; None where a flag was not given.

    Attributes:
        opt_batches: see ``profiles.make_profiles``.
        workspace_bytes: scratch memory the engine may use; None for as much as the device has.
        builder_level: 0 (quick build) to 5 (thorough); 3 by default.
        timing_cache: file of measurements, read if it is there and written after the build.
        version_compatible: whether newer TensorRT of the same major number is to take the plan.
        hardware_compatible: which other GPUs are to take it.
        device: that builds, and that the engine is for: ``cuda`` by default.
        flavour: the library that builds and will run the engine.
        gpus: generations of GPUs that the engine is for, as ``--gpus`` lists them; for flavour ``rtx``.

    Example:
        >>> EngineOptions(opt_batches=(1, 8)).flavour
        'tensorrt'
    """

    opt_batches: tuple[int, ...] = ()
    workspace_bytes: int | None = None
    builder_level: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: HardwareLevel = "none"
    device: str | None = None
    flavour: FlavourName = "tensorrt"
    gpus: str | None = None

    @property
    def library(self) -> Flavour:
        """The entry of the flavour's table."""
        return FLAVOURS[self.flavour]

    @property
    def targets(self) -> tuple[str, ...]:
        """Compute capabilities that are built for; empty for that of the GPU at hand.

        Example:
            >>> EngineOptions(flavour="rtx", gpus="ada").targets
            ('8.9',)
        """
        if not self.library.builds_without_gpu:
            return ()
        return parse_generations(self.gpus if self.gpus is not None else ",".join(DEFAULT_GENERATIONS))

    @property
    def level(self) -> int:
        """``builder_level``, or its default."""
        return _DEFAULT_LEVEL if self.builder_level is None else self.builder_level

    def settings(self, cache_used: bool) -> BuildSettings:
        """The same for the sidecar."""
        return BuildSettings(
            workspace_bytes=self.workspace_bytes,
            builder_level=None if "--builder-level" in self.library.lacks else self.level,
            tf32=False,
            version_compatible=self.version_compatible,
            hardware_compatible=self.hardware_compatible,
            timing_cache=cache_used,
        )


def check_options(spec: ModelSpec, options: EngineOptions) -> tuple[ShapeProfile, ...]:
    """The profiles, after all that can be checked without TensorRT.

    Raises:
        BadInput: an option out of its range, or one that the flavour lacks; a precision that a target has no arithmetic
            of.
    """
    _refuse_missing(options)
    level = options.builder_level
    if level is not None and not 0 <= level <= 5:
        raise BadInput(f"--builder-level {level}: expected 0 (quick) to 5 (thorough)")
    if options.workspace_bytes is not None and options.workspace_bytes < 1 << 20:
        raise BadInput(f"--workspace-gb: {options.workspace_bytes} bytes, expected at least 0.001 (1 MB)")
    if options.timing_cache is not None and options.timing_cache.is_dir():
        raise BadInput(f"--timing-cache {options.timing_cache}: expected a file, this is a folder")
    _refuse_precision(spec.precision, options.targets)
    if spec.post.nms_form == "onnx":
        refuse_operators(["NonMaxSuppression"], options.library, "--nms onnx")
    return make_profiles(spec, options.opt_batches)


def refuse_operators(operators: Iterable[str], flavour: Flavour, subject: str) -> None:
    """Raises BadInput where the flavour cannot build an operator; ``subject`` begins the message."""
    for operator in operators:
        if operator in flavour.missing_operators:
            raise BadInput(
                f"{subject}: {flavour.title} has no kernel for the operator {operator}; "
                f"{flavour.missing_operators[operator]}, or build with another --flavour"
            )


def _refuse_missing(options: EngineOptions) -> None:
    given = {
        "--version-compatible": options.version_compatible,
        "--hardware-compatible": options.hardware_compatible != "none",
        "--timing-cache": options.timing_cache is not None,
        "--builder-level": options.builder_level is not None,
        "--device": options.device is not None,
        "--gpus": options.gpus is not None,
    }
    for flag, reason in options.library.lacks.items():
        if given[flag]:
            raise BadInput(f"{flag} with --flavour {options.flavour}: {options.library.title} lacks it: {reason}")


def _refuse_precision(precision: str, targets: Iterable[str]) -> None:
    oldest = _OLDEST_CAPABILITY.get(precision)
    if oldest is None:
        return
    for name, capabilities in GENERATIONS.items():
        if any(c in targets and tuple(map(int, c.split("."))) < oldest for c in capabilities):
            raise BadInput(
                f"--gpus {name} with precision {precision}: these GPUs have no arithmetic of it; leave {name} out of "
                "--gpus, or export the model with --precision fp16"
            )

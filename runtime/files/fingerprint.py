"""Fingerprint: what a TensorRT plan was built with, and whether another machine can run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aweigh.runtime.errors import CannotRun

HardwareLevel = Literal["none", "same-capability", "ampere-plus"]
_AMPERE = (8, 0)


@dataclass(frozen=True)
class Fingerprint:
    """TensorRT and GPU of one machine.

    Attributes:
        tensorrt: version with all its parts, ``11.4.0.106``.
        gpu: the driver's name of the device.
        compute_capability: ``9.0``.
        cuda: version of the CUDA runtime in use, ``13.0``.
        driver_cuda: newest CUDA version that the driver supports, ``13.1``.
        platform: operating system and processor, ``linux-x86_64``.
    """

    tensorrt: str
    gpu: str
    compute_capability: str
    cuda: str
    driver_cuda: str
    platform: str


@dataclass(frozen=True)
class Mismatch:
    """One reason why a plan does not fit: what it is about, as the plan has it, as this machine has it."""

    subject: str
    built: str
    here: str


def mismatches(
    built: Fingerprint, here: Fingerprint, version_compatible: bool = False, hardware: HardwareLevel = "none"
) -> tuple[Mismatch, ...]:
    """Everything that keeps a plan of ``built`` from running ``here``; empty where nothing does.

    A plan runs with the very TensorRT that built it, on GPUs of the same compute capability. ``version_compatible``
    lets newer versions of the same major number take it; ``hardware`` ``ampere-plus`` lets every GPU from compute
    capability 8.0 on.
    """
    found = []
    if built.platform != here.platform:
        found.append(Mismatch("platform", built.platform, here.platform))
    if not _version_fits(built.tensorrt, here.tensorrt, version_compatible):
        suffix = " or newer with the same major number" if version_compatible else ""
        found.append(Mismatch("TensorRT", built.tensorrt + suffix, here.tensorrt))
    capability = _numbers(here.compute_capability)
    if hardware == "ampere-plus":
        if capability < _AMPERE:
            found.append(Mismatch("compute capability", "8.0 or newer", f"{here.compute_capability} ({here.gpu})"))
    elif built.compute_capability != here.compute_capability:
        found.append(
            Mismatch(
                "compute capability",
                f"{built.compute_capability} ({built.gpu})",
                f"{here.compute_capability} ({here.gpu})",
            )
        )
    if _numbers(here.driver_cuda)[:1] < _numbers(built.cuda)[:1]:
        found.append(Mismatch("driver", f"for CUDA {built.cuda}", f"for CUDA {here.driver_cuda} at most"))
    return tuple(found)


def require_fit(
    plan: str,
    built: Fingerprint,
    here: Fingerprint,
    version_compatible: bool = False,
    hardware: HardwareLevel = "none",
) -> tuple[str, ...]:
    """Remarks on what fits but not exactly (another GPU of the same compute capability).

    Raises:
        CannotRun: the plan does not fit; both sides are named, and how to build it again.
    """
    found = mismatches(built, here, version_compatible, hardware)
    if found:
        raise CannotRun(f"{plan}: built for another machine: {_told(found)}; {rebuild_hint(plan)}")
    if built.gpu != here.gpu and hardware == "none":
        return (f"built on {built.gpu}, runs on {here.gpu}: the choice of kernels was measured on the other one",)
    return ()


def rebuild_hint(plan: str) -> str:
    """What to do about a plan that does not fit; the command needs no torch."""
    return (
        "build it again on this machine from the ONNX file it came from: "
        f"aweigh export --model FILE.onnx --format engine --out {plan}"
    )


def _told(found: Sequence[Mismatch]) -> str:
    return ", ".join(f"{m.subject} {m.built} when it was built, {m.here} here" for m in found)


def _version_fits(built: str, here: str, compatible: bool) -> bool:
    if not compatible:
        return built == here
    ours, theirs = _numbers(here), _numbers(built)
    return ours[:1] == theirs[:1] and ours >= theirs


def _numbers(version: str) -> tuple[int, ...]:
    """``10.13.3.9`` as numbers; what is no number counts as 0."""
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))

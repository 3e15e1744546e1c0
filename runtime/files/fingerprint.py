"""Fingerprint: what a TensorRT plan was built with, and whether another machine can run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aweigh.runtime.errors import CannotRun
from aweigh.runtime.files.flavours import FLAVOURS, RTX, TENSORRT, FlavourName, generation_of

HardwareLevel = Literal["none", "same-capability", "ampere-plus"]
_AMPERE = (8, 0)


@dataclass(frozen=True)
class Fingerprint:
    """TensorRT and GPU of one machine.

    A build without a GPU leaves all but ``tensorrt`` and ``platform`` empty.

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
    differences = []
    if built.platform != here.platform:
        differences.append(Mismatch("platform", built.platform, here.platform))
    if not _version_fits(built.tensorrt, here.tensorrt, version_compatible):
        suffix = " or newer with the same major number" if version_compatible else ""
        differences.append(Mismatch("TensorRT", built.tensorrt + suffix, here.tensorrt))
    capability = _numbers(here.compute_capability)
    if hardware == "ampere-plus":
        if capability < _AMPERE:
            differences.append(
                Mismatch("compute capability", "8.0 or newer", f"{here.compute_capability} ({here.gpu})")
            )
    elif built.compute_capability != here.compute_capability:
        differences.append(
            Mismatch(
                "compute capability",
                f"{built.compute_capability} ({built.gpu})",
                f"{here.compute_capability} ({here.gpu})",
            )
        )
    if _numbers(here.driver_cuda)[:1] < _numbers(built.cuda)[:1]:
        differences.append(Mismatch("driver", f"for CUDA {built.cuda}", f"for CUDA {here.driver_cuda} at most"))
    return tuple(differences)


def rtx_mismatches(built: Fingerprint, here: Fingerprint, targets: Sequence[str]) -> tuple[Mismatch, ...]:
    """Everything that keeps a plan of TensorRT for RTX from running ``here``; empty where nothing does.

    Such a plan is for a version of the library, whatever the operating system and driver, and for ``targets``: the
    compute capabilities that it was built for.
    """
    differences = []
    if built.tensorrt != here.tensorrt:
        differences.append(Mismatch(RTX.title, built.tensorrt, here.tensorrt))
    if here.compute_capability not in targets:
        gpus = ", ".join(targets)
        differences.append(Mismatch("compute capability", gpus, f"{here.compute_capability} ({here.gpu})"))
    return tuple(differences)


def require_fit(
    plan: str,
    built: Fingerprint,
    here: Fingerprint,
    version_compatible: bool = False,
    hardware: HardwareLevel = "none",
    *,
    flavour: FlavourName = "tensorrt",
    targets: Sequence[str] = (),
) -> tuple[str, ...]:
    """Remarks on what fits but not exactly (another GPU of the same compute capability).

    Raises:
        CannotRun: the plan does not fit; both sides are named, and how to build it again.
    """
    if flavour == "rtx":
        differences = rtx_mismatches(built, here, targets)
        if differences:
            raise CannotRun(f"{plan}: {_differences(differences)}; {_rtx_hint(plan, here)}")
        return ()
    differences = mismatches(built, here, version_compatible, hardware)
    if differences:
        raise CannotRun(f"{plan}: {_differences(differences)}; {rebuild_hint(plan)}")
    if built.gpu != here.gpu and hardware == "none":
        return (f"built on {built.gpu}, runs on {here.gpu}: the choice of kernels was measured on the other one",)
    return ()


def rebuild_hint(plan: str, flavour: FlavourName = "tensorrt") -> str:
    """What to do about a plan that does not fit; the command needs no torch."""
    where = "on any machine" if FLAVOURS[flavour].builds_without_gpu else "on this machine"
    option = "" if flavour == "tensorrt" else f" --flavour {flavour}"
    return (
        f"build it again {where} from the ONNX file it came from: "
        f"aweigh export --model FILE.onnx --format engine{option} --out {plan}"
    )


def _rtx_hint(plan: str, here: Fingerprint) -> str:
    generation = generation_of(here.compute_capability)
    if generation is None:
        return f"{RTX.title} has no kernels for this GPU, {TENSORRT.title} has: {rebuild_hint(plan)} --flavour tensorrt"
    return f"{rebuild_hint(plan, 'rtx')} --gpus {generation}"


def _differences(differences: Sequence[Mismatch]) -> str:
    words = ", ".join(f"{m.subject} {m.built} when it was built, {m.here} here" for m in differences)
    return f"built for another machine: {words}"


def _version_fits(built: str, here: str, compatible: bool) -> bool:
    if not compatible:
        return built == here
    ours, theirs = _numbers(here), _numbers(built)
    return ours[:1] == theirs[:1] and ours >= theirs


def _numbers(version: str) -> tuple[int, ...]:
    """``10.13.3.9`` as numbers; what is no number counts as 0."""
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))

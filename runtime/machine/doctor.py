"""What is installed and what it can run on: versions, back ends, devices, and which extra lacks what."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from aweigh.runtime.errors import install_advice
from aweigh.runtime.machine.conditions import GpuState, snapshot
from aweigh.runtime.machine.facts import describe

# Distributions that own the same module: the one installed last is used, and removing one breaks both.
_RIVALS = (
    ("onnxruntime", "onnxruntime-gpu"),
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
)
_ONE_OF = ("onnxruntime", "onnxruntime-gpu")
_SHARED_MEMORY = Path("/dev/shm")
_LITTLE_SHARED_BYTES = 256 << 20


@dataclass(frozen=True)
class TorchFacts:
    """What the training stage, which may import torch, reports of it.

    Attributes:
        cuda: the version torch was built for; None in a CPU build.
        devices: names of the GPUs that torch sees.
    """

    version: str
    cuda: str | None
    devices: tuple[str, ...]


@dataclass(frozen=True)
class BackendFacts:
    """An inference library that is installed.

    Attributes:
        version: None where it cannot be imported.
        devices: those that it reports.
        providers: ONNX Runtime's; None for other libraries.
        error: why it cannot be imported.
    """

    version: str | None
    devices: tuple[str, ...]
    providers: tuple[str, ...] | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without those that do not apply."""
        return {name: value for name, value in asdict(self).items() if name == "version" or value is not None}


@dataclass(frozen=True)
class ExtraFacts:
    """One of aweigh's extras: the distributions of it that are not installed, and the command that installs them."""

    missing: tuple[str, ...]
    install: str


@dataclass(frozen=True)
class MachineFinding:
    """Something that is wrong with the installation, or slow: what it means and what to do."""

    grade: Literal["error", "warning"]
    meaning: str
    advice: str


@dataclass(frozen=True)
class MachineReport:
    """The machine and the installation.

    Attributes:
        machine: ``facts.describe``, with ``memory_gb`` and ``disk_free_gb`` of the working directory (10^9 bytes).
        gpu: the first GPU by nvidia-smi; None without one.
        backends: the inference libraries that are installed, by module name.
        torch: None where the training stage is not installed.
        extras: by name.
        findings: errors and warnings.
    """

    machine: Mapping[str, str | int | float]
    gpu: GpuState | None
    backends: Mapping[str, BackendFacts]
    torch: TorchFacts | None
    extras: Mapping[str, ExtraFacts]
    findings: tuple[MachineFinding, ...]

    @property
    def passed(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.grade != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            **asdict(self),
            "backends": {name: backend.to_dict() for name, backend in self.backends.items()},
            "passed": self.passed,
        }


def examine_machine(torch_facts: Callable[[], TorchFacts] | None = None) -> MachineReport:
    """Examine the machine and the installation.

    Args:
        torch_facts: given by the training stage; None where it is not installed.
    """
    installed = _versions()
    gpu, backends = snapshot("cuda:0").gpu, _backends()
    torch = None if torch_facts is None else torch_facts()
    return MachineReport(
        machine={
            **describe(),
            "memory_gb": _memory_gb(),
            "disk_free_gb": round(shutil.disk_usage(".").free / 1e9, 1),
        },
        gpu=gpu,
        backends=backends,
        torch=torch,
        extras=_extras(installed),
        findings=(*_of_distributions(installed), *_of_devices(gpu, backends.get("onnxruntime"), torch), *_of_memory()),
    )


def _of_distributions(installed: Mapping[str, str]) -> list[MachineFinding]:
    findings = []
    for rivals in _RIVALS:
        both = [name for name in rivals if name in installed]
        if len(both) > 1:
            meaning = f"{' and '.join(both)} own the same module"
            findings.append(MachineFinding("error", meaning, f"pip uninstall -y {' '.join(both)}, install one"))
    if not any(name in installed for name in _ONE_OF):
        meaning = "no ONNX Runtime: models cannot be run"
        findings.append(MachineFinding("error", meaning, install_advice("cpu", "gpu")))
    return findings


def _of_devices(
    gpu: GpuState | None, onnxruntime: BackendFacts | None, torch: TorchFacts | None
) -> list[MachineFinding]:
    """A GPU that a library does not use, or a library built for a GPU that is not there."""
    findings = []
    on_cuda = onnxruntime is not None and "cuda" in onnxruntime.devices
    if gpu is not None and torch is not None and not torch.devices:
        meaning = f"torch {torch.version} does not see the {gpu.name}"
        findings.append(MachineFinding("warning", meaning, "install a CUDA build of torch"))
    if gpu is not None and onnxruntime is not None and not on_cuda:
        meaning = f"ONNX Runtime does not use the {gpu.name}"
        findings.append(MachineFinding("warning", meaning, f"{install_advice('gpu')}, in place of the extra cpu"))
    if gpu is None and on_cuda:
        meaning = "ONNX Runtime is built for CUDA, nvidia-smi finds no GPU"
        findings.append(MachineFinding("warning", meaning, "install NVIDIA's driver, or the extra cpu in place of gpu"))
    return findings


def _of_memory() -> list[MachineFinding]:
    if not _SHARED_MEMORY.is_dir() or (free := shutil.disk_usage(_SHARED_MEMORY).free) >= _LITTLE_SHARED_BYTES:
        return []
    meaning = f"{free >> 20} MiB of shared memory, through which workers hand over images"
    advice = "train with --workers 0, or give the container more (docker run --shm-size 1g)"
    return [MachineFinding("warning", meaning, advice)]


def _versions() -> dict[str, str]:
    names = {name for rivals in _RIVALS for name in rivals} | {name for _, name in _requirements()}
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _requirements() -> list[tuple[str, str]]:
    """(extra, distribution) of all that aweigh depends on; the extra is empty for what it always needs."""
    pairs = []
    for line in requires("aweigh") or []:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if name and name[0] != "aweigh":
            pairs.append((extra[1] if extra else "", name[0]))
    return pairs


def _extras(installed: Mapping[str, str]) -> dict[str, ExtraFacts]:
    missing: dict[str, list[str]] = {}
    for extra, name in _requirements():
        if extra:
            missing.setdefault(extra, []).extend([] if name in installed else [name])
    return {extra: ExtraFacts(tuple(names), install_advice(extra)) for extra, names in missing.items()}


def _backends() -> dict[str, BackendFacts]:
    """The libraries that are installed, with the devices that they report."""
    probes: dict[str, tuple[str, Callable[[], BackendFacts]]] = {
        "onnxruntime": ("onnxruntime", _onnxruntime),
        "openvino": ("openvino", _openvino),
        "tensorrt": ("tensorrt", _tensorrt),
        "tensorrt-rtx": ("tensorrt_rtx_bindings", _tensorrt_rtx),
    }
    backends = {}
    for name, (module, probe) in probes.items():
        try:
            backends[name] = probe()
        except ImportError as error:
            if getattr(error, "name", None) != module:  # installed and broken: a library that it needs is missing
                backends[name] = BackendFacts(None, (), error=str(error))
    return backends


def _onnxruntime() -> BackendFacts:
    import onnxruntime

    providers = tuple(onnxruntime.get_available_providers())
    devices = ("cpu", "cuda") if "CUDAExecutionProvider" in providers else ("cpu",)
    return BackendFacts(onnxruntime.__version__, devices, providers)


def _openvino() -> BackendFacts:
    import openvino

    return BackendFacts(openvino.__version__, tuple(name.lower() for name in openvino.Core().available_devices))


def _tensorrt() -> BackendFacts:
    import tensorrt

    return BackendFacts(tensorrt.__version__, ("cuda",))


def _tensorrt_rtx() -> BackendFacts:
    """Builds engines on any machine, and runs them on a GPU."""
    import tensorrt_rtx_bindings

    return BackendFacts(tensorrt_rtx_bindings.__version__, ("cuda",))


def _memory_gb() -> float:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)

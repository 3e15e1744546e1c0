"""What is installed here and what it can run on: versions, back ends, devices, and what is missing for which extra."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from aweigh.runtime.machine.conditions import snapshot
from aweigh.runtime.machine.facts import describe

# Distributions that own the same module: what runs is whichever was installed last, and removing one breaks both.
_RIVALS = (
    ("onnxruntime", "onnxruntime-gpu"),
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
)
_ONE_OF = ("onnxruntime", "onnxruntime-gpu")
_SHARED_MEMORY = Path("/dev/shm")
_LITTLE_SHARED_BYTES = 256 << 20


def examine_machine(torch_facts: Callable[[], dict[str, Any]] | None = None) -> dict[str, Any]:
    """The machine and the installation, as JSON values.

    Args:
        torch_facts: given by the training stage, which may import torch; None where it is not installed.

    Returns:
        ``machine`` (``machine.describe``), ``gpu`` (of nvidia-smi; None without), ``backends`` by name with ``version``
        and ``devices``, ``torch``, ``extras`` by name with ``missing`` and ``install``, ``findings`` (``grade``,
        ``meaning``, ``advice``), and ``passed``: none of them is an error.
    """
    installed = _versions()
    report: dict[str, Any] = {
        "machine": {
            **describe(),
            "memory_gb": _memory_gb(),
            "disk_free_gb": round(shutil.disk_usage(".").free / 1e9, 1),
        },
        "gpu": snapshot("cuda:0").gpu,
        "backends": _backends(),
        "torch": None if torch_facts is None else torch_facts(),
        "extras": _extras(installed),
    }
    findings = list(_findings(report, installed))
    return {**report, "findings": findings, "passed": all(f["grade"] != "error" for f in findings)}


def _findings(report: Mapping[str, Any], installed: Mapping[str, str]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []

    def add(grade: str, meaning: str, advice: str) -> None:
        found.append({"grade": grade, "meaning": meaning, "advice": advice})

    for rivals in _RIVALS:
        both = [name for name in rivals if name in installed]
        if len(both) > 1:
            add("error", f"{' and '.join(both)} own the same module", f"pip uninstall -y {' '.join(both)}, install one")
    if not any(name in installed for name in _ONE_OF):
        add("error", "no ONNX Runtime: models cannot be run", "pip install 'aweigh[cpu]' or 'aweigh[gpu]'")
    gpu, torch = report["gpu"], report["torch"]
    if gpu is not None and torch is not None and not torch["devices"]:
        add("warning", f"torch {torch['version']} does not see the {gpu['name']}", "install a CUDA build of torch")
    onnxruntime = report["backends"].get("onnxruntime")
    if gpu is not None and onnxruntime and "cuda" not in onnxruntime["devices"]:
        add(
            "warning",
            f"ONNX Runtime does not use the {gpu['name']}",
            "pip install 'aweigh[gpu]' in place of aweigh[cpu]",
        )
    if gpu is None and onnxruntime and "cuda" in onnxruntime["devices"]:
        add(
            "warning",
            "ONNX Runtime is built for CUDA, nvidia-smi finds no GPU",
            "install NVIDIA's driver, or aweigh[cpu]",
        )
    if _SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(_SHARED_MEMORY).free) < _LITTLE_SHARED_BYTES:
        add(
            "warning",
            f"{free >> 20} MiB of shared memory, through which workers hand over pictures",
            "train with --workers 0, or give the container more (docker run --shm-size 1g)",
        )
    return found


def _versions() -> dict[str, str]:
    names = {name for rivals in _RIVALS for name in rivals} | {name for _, name in _requirements()}
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _requirements() -> list[tuple[str, str]]:
    """(extra, distribution) of everything aweigh names; the extra is empty for what it always needs."""
    pairs = []
    for line in requires("aweigh") or []:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if name and name[0] != "aweigh":
            pairs.append((extra[1] if extra else "", name[0]))
    return pairs


def _extras(installed: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    extras: dict[str, dict[str, Any]] = {}
    for extra, name in _requirements():
        if not extra:
            continue
        entry = extras.setdefault(extra, {"missing": [], "install": f"pip install 'aweigh[{extra}]'"})
        if name not in installed:
            entry["missing"].append(name)
    return extras


def _backends() -> dict[str, dict[str, Any]]:
    """Those that can be imported, with the devices they say they have."""
    probes: dict[str, Callable[[], dict[str, Any]]] = {
        "onnxruntime": _onnxruntime,
        "openvino": _openvino,
        "tensorrt": _tensorrt,
    }
    found = {}
    for name, probe in probes.items():
        try:
            found[name] = probe()
        except ImportError as error:
            if getattr(error, "name", None) != name:  # there, and broken: a library of its own is missing
                found[name] = {"version": None, "devices": [], "error": str(error)}
    return found


def _onnxruntime() -> dict[str, Any]:
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    return {
        "version": onnxruntime.__version__,
        "providers": providers,
        "devices": ["cpu", *(["cuda"] if "CUDAExecutionProvider" in providers else [])],
    }


def _openvino() -> dict[str, Any]:
    import openvino

    return {"version": openvino.__version__, "devices": [d.lower() for d in openvino.Core().available_devices]}


def _tensorrt() -> dict[str, Any]:
    import tensorrt

    return {"version": tensorrt.__version__, "devices": ["cuda"]}


def _memory_gb() -> float:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)

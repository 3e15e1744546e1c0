"""The machine this process runs on: cores it may use, memory it has used, what belongs with a measurement."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_INFERENCE_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt-cu13", "cuda-bindings")
_PROC = Path("/proc")
_CPUS = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_QUOTA = _CGROUP / "cpu.max"


def available_cores() -> int:
    """Physical cores this process may run on, at least 1; counts affinity and a container's CPU quota.

    Two hyper-threads of a core count once: they share the multipliers that convolutions wait for.
    """
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = _CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        cores.add(siblings.read_text().strip() if siblings.is_file() else str(cpu))
    count = len(cores)
    if _CGROUP_QUOTA.is_file():
        quota, period = _CGROUP_QUOTA.read_text().split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    return max(1, count)


def memory_mb(which: str) -> float | None:
    """``VmHWM`` (peak) or ``VmRSS`` (now) of this process in MB (10^6 bytes); None where there is no /proc.

    Not getrusage: its maximum is carried over exec, so that a child starts with the memory of its parent.
    """
    status = _PROC / "self" / "status"
    match = re.search(rf"{which}:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return int(match[1]) * 1024 / 1e6 if match else None


def free_memory_bytes() -> int:
    """Main memory that the system, and a container's limit, leave to this process."""
    free = int(re.findall(r"MemAvailable:\s+(\d+) kB", (_PROC / "meminfo").read_text())[0]) * 1024
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if limit.is_file() and used.is_file() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    cpuinfo = _PROC / "cpuinfo"
    match = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.is_file() else None
    return match[1].strip() if match else platform.machine()


def sums_int8_exactly() -> bool:
    """Whether this CPU adds products of 8-bit integers in 32 bits: x86 with VNNI or AMX, or another architecture.

    x86 without them adds pairs of products in 16 bits, which overflow: ONNX Runtime's integer convolutions of uint8 by
    int8 are wrong there.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    cpuinfo = _PROC / "cpuinfo"
    return cpuinfo.is_file() and re.search(r"avx512_vnni|avx_vnni|amx_int8", cpuinfo.read_text()) is not None


def describe() -> dict[str, str | int | float]:
    """CPU, cores, load and versions, as every measurement records them."""
    facts: dict[str, str | int | float] = {
        "cpu": cpu_name(),
        "cores": available_cores(),
        "load_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    for package in ("aweigh", "numpy", "opencv-python-headless", *_INFERENCE_PACKAGES):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts

"""What the machine did while something was measured: clocks, throttling, and who else worked on it."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_CPUS = Path("/sys/devices/system/cpu")
_CGROUP_STAT = Path("/sys/fs/cgroup/cpu.stat")
_BUSY_FIELDS = ("user", "nice", "system", "irq", "softirq")
_STAT_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_GPU_QUERY = {
    "clock_mhz": "clocks.sm",
    "max_clock_mhz": "clocks.max.sm",
    "temperature_c": "temperature.gpu",
    "power_w": "power.draw",
    "memory_used_mib": "memory.used",
    "throttle_reasons": "clocks_throttle_reasons.active",
    "name": "name",
    "driver": "driver_version",
}
_THROTTLE_IDLE = 0x1  # the bit that says no more than that the GPU has nothing to do
# Above these shares of the machine's time, figures are those of a shared machine.
_STOLEN_LIMIT, _OTHERS_LIMIT = 0.01, 0.05


@dataclass(frozen=True)
class Snapshot:
    """Counters and clocks at one moment; what the system does not tell is None.

    Attributes:
        ticks: of all processors since the start of the system, by kind.
        own_s: processor time of this process and of its children that have ended.
        mhz: mean clock of the processors.
        throttled_us: how long a container's quota has kept its processes waiting.
        thermal_events: how often a core was slowed down for its heat.
        gpu: of nvidia-smi, for the device asked for.
    """

    ticks: dict[str, int] | None
    own_s: float
    load_1min: float
    mhz: float | None
    throttled_us: int | None
    thermal_events: int | None
    gpu: dict[str, Any] | None


def snapshot(device: str = "cpu") -> Snapshot:
    """The machine now; the GPU is asked where ``device`` is one."""
    own = os.times()
    return Snapshot(
        ticks=_ticks(),
        own_s=own.user + own.system + own.children_user + own.children_system,
        load_1min=os.getloadavg()[0],
        mhz=_mhz(),
        throttled_us=_number(_CGROUP_STAT, r"throttled_usec (\d+)"),
        thermal_events=_thermal_events(),
        gpu=None if device == "cpu" else _gpu(device),
    )


def between(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """What happened in the time between, as JSON values.

    Returns:
        ``mhz`` [before, after]; ``stolen_share`` of the processors' time taken by the machine below a virtual one;
        ``others_share`` of it used by other processes; ``throttled_ms`` by a container's quota; ``thermal_events``;
        ``load_1min`` [before, after]; ``gpu`` [before, after] with the bits of its reasons to slow down; ``quiet``:
        nobody else to speak of and no throttling, None where that cannot be told.
    """
    stolen = others = None
    if before.ticks is not None and after.ticks is not None:
        spent = {kind: after.ticks[kind] - before.ticks[kind] for kind in _STAT_FIELDS}
        total = max(1, sum(spent.values()))
        own = (after.own_s - before.own_s) * os.sysconf("SC_CLK_TCK")
        stolen = spent["steal"] / total
        others = max(0.0, sum(spent[kind] for kind in _BUSY_FIELDS) - own) / total
    throttled_ms = _minus(after.throttled_us, before.throttled_us, 1e-3)
    thermal = _minus(after.thermal_events, before.thermal_events)
    gpu = None if before.gpu is None or after.gpu is None else [before.gpu, after.gpu]
    quiet = None
    if stolen is not None and others is not None:
        slowed = bool(throttled_ms) or bool(thermal) or any(g["slowed"] for g in gpu or ())
        quiet = stolen <= _STOLEN_LIMIT and others <= _OTHERS_LIMIT and not slowed
    return {
        "quiet": quiet,
        "stolen_share": stolen,
        "others_share": others,
        "throttled_ms": throttled_ms,
        "thermal_events": None if thermal is None else int(thermal),
        "mhz": [before.mhz, after.mhz],
        "load_1min": [round(before.load_1min, 2), round(after.load_1min, 2)],
        "gpu": gpu,
    }


def noise(conditions: dict[str, Any]) -> str | None:
    """Why the figures are not those of a quiet machine, in words; None where they are, or nobody knows."""
    if conditions["quiet"] is not False:
        return None
    told = [
        f"{conditions['stolen_share']:.0%} of the processors' time was taken by the machine below",
        f"other processes used {conditions['others_share']:.0%}",
    ]
    if conditions["throttled_ms"]:
        told.append(f"the container's quota held it up for {conditions['throttled_ms']:.0f} ms")
    if conditions["thermal_events"]:
        told.append(f"{conditions['thermal_events']} times a core was slowed down for its heat")
    if any(g["slowed"] for g in conditions["gpu"] or ()):
        told.append("the GPU slowed down")
    return "not a quiet machine: " + ", ".join(told)


def _ticks() -> dict[str, int] | None:
    stat = _PROC / "stat"
    if not stat.is_file():
        return None
    numbers = stat.read_text().split("\n", 1)[0].split()[1:]
    return dict(zip(_STAT_FIELDS, map(int, numbers[: len(_STAT_FIELDS)]), strict=True))


def _mhz() -> float | None:
    cpuinfo = _PROC / "cpuinfo"
    found = re.findall(r"cpu MHz\s*:\s*([\d.]+)", cpuinfo.read_text()) if cpuinfo.is_file() else []
    return sum(map(float, found)) / len(found) if found else None


def _thermal_events() -> int | None:
    counters = list(_CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
    return sum(int(counter.read_text()) for counter in counters) if counters else None


def _number(path: Path, pattern: str) -> int | None:
    match = re.search(pattern, path.read_text()) if path.is_file() else None
    return int(match[1]) if match else None


def _minus(after: int | None, before: int | None, scale: float = 1.0) -> float | None:
    return None if after is None or before is None else (after - before) * scale


def _gpu(device: str) -> dict[str, Any] | None:
    """nvidia-smi's figures for ``cuda:N``; None where there is no nvidia-smi."""
    index = device.partition(":")[2] or "0"
    command = [
        "nvidia-smi",
        f"--id={index}",
        f"--query-gpu={','.join(_GPU_QUERY.values())}",
        "--format=csv,noheader,nounits",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    values = dict(zip(_GPU_QUERY, (value.strip() for value in done.stdout.strip().split(",")), strict=True))
    reasons = values.pop("throttle_reasons")
    numbers = {name: _float(value) for name, value in values.items() if name not in ("name", "driver")}
    slowed = reasons.startswith("0x") and bool(int(reasons, 16) & ~_THROTTLE_IDLE)
    return {
        "name": values["name"],
        "driver": values["driver"],
        **numbers,
        "throttle_reasons": reasons,
        "slowed": slowed,
    }


def _float(text: str) -> float | None:
    """A figure; None for nvidia-smi's ``[N/A]``."""
    try:
        return float(text)
    except ValueError:
        return None

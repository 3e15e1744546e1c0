"""What the machine did while something was measured: clocks, throttling, and the load of other processes."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aweigh.runtime.device import Device

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
_THROTTLE_IDLE = 0x1  # the bit that only means that the GPU has nothing to do
# Above these shares of the machine's time, measurements are those of a shared machine.
_STOLEN_LIMIT, _OTHERS_LIMIT = 0.01, 0.05


@dataclass(frozen=True)
class GpuState:
    """A GPU at one moment, as nvidia-smi reports it; None for what it does not report.

    Attributes:
        throttle_reasons: a bit mask in hexadecimal.
        slowed: whether one of the reasons is more than having nothing to do.
    """

    name: str
    driver: str
    clock_mhz: float | None = None
    max_clock_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    memory_used_mib: float | None = None
    throttle_reasons: str = ""
    slowed: bool = False


@dataclass(frozen=True)
class Snapshot:
    """Counters and clocks at one moment; None for what the system does not report.

    Attributes:
        ticks: of all processors since the start of the system, by kind.
        own_s: processor time of this process and of its children that have ended.
        mhz: mean clock of the processors.
        throttled_us: how long the quota of the container has kept its processes waiting.
        thermal_events: how often a core was slowed down because of its temperature.
        gpu: the GPU that was asked for.
    """

    ticks: dict[str, int] | None
    own_s: float
    load_1min: float
    mhz: float | None
    throttled_us: int | None
    thermal_events: int | None
    gpu: GpuState | None


def snapshot(device: str | Device = "cpu") -> Snapshot:
    """The machine now, with nvidia-smi's values for ``device`` where that is an NVIDIA GPU. Raises BadInput."""
    device = Device.parse(device, ("cpu", "cuda", "gpu"))
    own = os.times()
    return Snapshot(
        ticks=_ticks(),
        own_s=own.user + own.system + own.children_user + own.children_system,
        load_1min=os.getloadavg()[0],
        mhz=_mhz(),
        throttled_us=_number(_CGROUP_STAT, r"throttled_usec (\d+)"),
        thermal_events=_thermal_events(),
        gpu=_gpu(device) if device.kind == "cuda" else None,
    )


@dataclass(frozen=True)
class Conditions:
    """What happened between two snapshots; pairs are [before, after], None where the system does not report it.

    Attributes:
        quiet: no other load to speak of and no throttling; None where that is unknown.
        stolen_share: share of the processors' time, 0 to 1, that the host of a virtual machine took.
        others_share: share of the processors' time, 0 to 1, that other processes used.
        throttled_ms: how long the quota of the container kept this process waiting.
        thermal_events: how often a core was slowed down because of its temperature.
        mhz: mean clock of the processors.
        load_1min: the system's load average.
        gpu: the GPU that was asked for.
    """

    quiet: bool | None
    stolen_share: float | None
    others_share: float | None
    throttled_ms: float | None
    thermal_events: int | None
    mhz: tuple[float | None, float | None]
    load_1min: tuple[float, float]
    gpu: tuple[GpuState, GpuState] | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @property
    def noise(self) -> str | None:
        """Why a measurement is not that of a quiet machine, in words; None where it is, or where that is unknown."""
        if self.quiet is not False:
            return None
        reasons = [
            f"{self.stolen_share:.0%} of the processors' time was taken by the host of this virtual machine",
            f"other processes used {self.others_share:.0%}",
        ]
        if self.throttled_ms:
            reasons.append(f"the container's quota held it up for {self.throttled_ms:.0f} ms")
        if self.thermal_events:
            reasons.append(f"{self.thermal_events} times a core was slowed down because of its temperature")
        if any(gpu.slowed for gpu in self.gpu or ()):
            reasons.append("the GPU slowed down")
        return "not a quiet machine: " + ", ".join(reasons)


def between(before: Snapshot, after: Snapshot) -> Conditions:
    """What happened between two snapshots of this process."""
    stolen = others = None
    if before.ticks is not None and after.ticks is not None:
        spent = {kind: after.ticks[kind] - before.ticks[kind] for kind in _STAT_FIELDS}
        total = max(1, sum(spent.values()))
        own = (after.own_s - before.own_s) * os.sysconf("SC_CLK_TCK")
        stolen = spent["steal"] / total
        others = max(0.0, sum(spent[kind] for kind in _BUSY_FIELDS) - own) / total
    throttled_ms = _minus(after.throttled_us, before.throttled_us, 1e-3)
    thermal = _minus(after.thermal_events, before.thermal_events)
    gpu = None if before.gpu is None or after.gpu is None else (before.gpu, after.gpu)
    quiet = None
    if stolen is not None and others is not None:
        slowed = bool(throttled_ms) or bool(thermal) or any(state.slowed for state in gpu or ())
        quiet = stolen <= _STOLEN_LIMIT and others <= _OTHERS_LIMIT and not slowed
    return Conditions(
        quiet=quiet,
        stolen_share=stolen,
        others_share=others,
        throttled_ms=throttled_ms,
        thermal_events=None if thermal is None else int(thermal),
        mhz=(before.mhz, after.mhz),
        load_1min=(round(before.load_1min, 2), round(after.load_1min, 2)),
        gpu=gpu,
    )


def _ticks() -> dict[str, int] | None:
    stat = _PROC / "stat"
    if not stat.is_file():
        return None
    numbers = stat.read_text().split("\n", 1)[0].split()[1:]
    return dict(zip(_STAT_FIELDS, map(int, numbers[: len(_STAT_FIELDS)]), strict=True))


def _mhz() -> float | None:
    cpuinfo = _PROC / "cpuinfo"
    clocks = re.findall(r"cpu MHz\s*:\s*([\d.]+)", cpuinfo.read_text()) if cpuinfo.is_file() else []
    return sum(map(float, clocks)) / len(clocks) if clocks else None


def _thermal_events() -> int | None:
    counters = list(_CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
    return sum(int(counter.read_text()) for counter in counters) if counters else None


def _number(path: Path, pattern: str) -> int | None:
    match = re.search(pattern, path.read_text()) if path.is_file() else None
    return int(match[1]) if match else None


def _minus(after: int | None, before: int | None, scale: float = 1.0) -> float | None:
    return None if after is None or before is None else (after - before) * scale


def _gpu(device: Device) -> GpuState | None:
    """The GPU by nvidia-smi; None where there is no nvidia-smi."""
    command = [
        "nvidia-smi",
        f"--id={device.number}",
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
    return GpuState(values["name"], values["driver"], throttle_reasons=reasons, slowed=slowed, **numbers)


def _float(text: str) -> float | None:
    """A number; None for nvidia-smi's ``[N/A]``."""
    try:
        return float(text)
    except ValueError:
        return None

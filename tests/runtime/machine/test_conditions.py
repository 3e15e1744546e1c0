"""What else the machine did: read from planted counters."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime.machine import conditions
from aweigh.runtime.machine.conditions import GpuState, Snapshot, between, snapshot

TICKS = dict.fromkeys(("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"), 1000)
BEFORE = Snapshot(TICKS, own_s=1.0, load_1min=0.5, mhz=2000.0, throttled_us=0, thermal_events=0, gpu=None)
GPU = GpuState("G", "1", clock_mhz=1000.0, throttle_reasons="0x0000000000000001")


def later(ticks: dict[str, int] | None = None, **changes: Any) -> Snapshot:
    spent = {kind: count + (ticks or {}).get(kind, 0) for kind, count in TICKS.items()}
    return replace(BEFORE, ticks=spent, **changes)


def test_a_quiet_machine() -> None:
    per_s = os.sysconf("SC_CLK_TCK")
    found = between(BEFORE, later({"user": per_s, "idle": 9 * per_s}, own_s=2.0, mhz=3000.0))
    assert found.quiet is True
    assert (found.stolen_share, found.others_share) == (0.0, pytest.approx(0.0))
    assert found.mhz == (2000.0, 3000.0)
    assert found.noise is None


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (later({"steal": 20, "idle": 80}), "20% of the processors' time was taken"),
        (later({"user": 40, "idle": 60}), "other processes used 40%"),
        (later({"idle": 100}, throttled_us=5000), "held it up for 5 ms"),
        (later({"idle": 100}, thermal_events=3), "3 times a core was slowed down"),
        (later({"idle": 100}, gpu=replace(GPU, slowed=True)), "the GPU slowed down"),
    ],
)
def test_what_is_not_quiet_is_named(after: Snapshot, words: str) -> None:
    before = replace(BEFORE, gpu=GPU) if after.gpu else BEFORE
    found = between(before, after)
    assert found.quiet is False
    assert words in str(found.noise)


def test_a_system_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PROC", "_CPUS"):
        monkeypatch.setattr(conditions, name, tmp_path)
    monkeypatch.setattr(conditions, "_CGROUP_STAT", tmp_path / "cpu.stat")
    found = between(snapshot(), snapshot())
    assert (found.quiet, found.stolen_share, found.throttled_ms, found.mhz) == (
        None,
        None,
        None,
        (None, None),
    )
    assert found.noise is None


def test_counters_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stat").write_text("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 0 0 0 0 0 0 0 0 0 0\n")
    (tmp_path / "cpuinfo").write_text("cpu MHz\t\t: 2000.5\ncpu MHz\t\t: 3000.5\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 5\nthrottled_usec 1234\n")
    for cpu in range(2):
        counter = tmp_path / f"cpu{cpu}" / "thermal_throttle" / "core_throttle_count"
        counter.parent.mkdir(parents=True)
        counter.write_text("4\n")
    for name in ("_PROC", "_CPUS"):
        monkeypatch.setattr(conditions, name, tmp_path)
    monkeypatch.setattr(conditions, "_CGROUP_STAT", tmp_path / "cpu.stat")
    now = snapshot()
    assert now.ticks is not None
    assert (now.ticks["user"], now.ticks["steal"]) == (1, 8)
    assert (now.mhz, now.throttled_us, now.thermal_events) == (2500.5, 1234, 8)


def test_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "1410, 1980, 61, [N/A], 2048, 0x0000000000000004, Some GPU, 580.1"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    gpu = snapshot("cuda:1").gpu
    assert gpu is not None
    assert (gpu.clock_mhz, gpu.power_w, gpu.name, gpu.slowed) == (1410.0, None, "Some GPU", True)
    assert snapshot("cpu").gpu is None
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert snapshot("cuda").gpu is None

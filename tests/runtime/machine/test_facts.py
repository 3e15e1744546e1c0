from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from aweigh.runtime.machine import facts as machine


def test_available_cores() -> None:
    assert 1 <= machine.available_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 4), ("200000 100000", 2), ("50000 100000", 1), ("900000 100000", 4)]
)
@pytest.mark.parametrize("threads_per_core", [1, 2])
def test_hyper_threads_and_quotas_count(
    quota: str, cores: int, threads_per_core: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cpu in range(4 * threads_per_core):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(machine, "_CPUS", tmp_path)
    monkeypatch.setattr(machine, "_CGROUP_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4 * threads_per_core)))
    assert machine.available_cores() == cores


def test_memory() -> None:
    before = machine.memory_mb("VmHWM")
    if before is None:
        pytest.skip("no /proc here")
    block = np.ones(50_000_000, np.uint8)
    after = machine.memory_mb("VmRSS")
    assert after is not None
    assert after > len(block) / 1e6
    assert machine.memory_mb("NoSuchLine") is None


def test_describe_is_json() -> None:
    facts = json.loads(json.dumps(machine.describe()))
    assert {"cpu", "cores", "load_1min", "python", "numpy", "aweigh"} <= set(facts)


def test_a_system_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PROC", tmp_path)
    assert machine.memory_mb("VmHWM") is None
    assert machine.cpu_name()

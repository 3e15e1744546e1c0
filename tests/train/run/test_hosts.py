"""Two hosts, made of network namespaces, train by torchrun; then the cable between them is pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from aweigh.runtime.cli.main import main
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.config import TrainConfig

SECONDS = 600  # a hang, on any machine
PORT = 29400


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Names of two network namespaces and their addresses, joined by a pair of virtual Ethernet devices."""
    if shutil.which("ip") is None:
        pytest.skip("no ip command: iproute2 is not installed")
    unique = str(os.getpid())
    found = {f"aweigh{unique}{letter}": f"10.77.0.{number}" for letter, number in (("a", 1), ("b", 2))}
    (a, _), (b, _) = found.items()
    made: list[str] = []
    try:
        try:
            for name in found:
                ip("netns", "add", name)
                made.append(name)
            ip("link", "add", "wire", "netns", a, "type", "veth", "peer", "name", "wire", "netns", b)
            for name, address in found.items():
                ip("-n", name, "addr", "add", f"{address}/24", "dev", "wire")
                for device in ("wire", "lo"):
                    ip("-n", name, "link", "set", device, "up")
        except OSError as error:
            pytest.skip(f"cannot make network namespaces here: {error}")
        yield found
    finally:
        for name in made:
            ip("netns", "del", name)


def torchrun(host: str, address: str, first: str, recipe: Path) -> subprocess.Popen[bytes]:
    """What it says goes to HOST.log beside the recipe."""
    command = ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run"]
    command += ["--nnodes", "2", "--nproc-per-node", "1", "--local-addr", address]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{first}:{PORT}", "--rdzv-id", "test"]
    # Both have the name of this machine, by which torchrun would find out who keeps the rendezvous.
    command += ["--rdzv-conf", f"is_host={'true' if address == first else 'false'}"]
    command += ["-m", "aweigh.runtime.cli", "train", "--config", str(recipe)]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "wire", "OMP_NUM_THREADS": "1"}
    with recipe.with_name(f"{host}.log").open("w") as log:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # torchrun ends its processes too
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def test_a_host_that_is_cut_off_ends_the_run_which_goes_on_elsewhere(
    tiny_config: TrainConfig, hosts: dict[str, str], tmp_path: Path
) -> None:
    recipe, run = tmp_path / "recipe.yaml", tiny_config.run_dir
    values = {**tiny_config.to_dict(), "method": "fcos", "epochs": 30, "val_every": 30, "wait_seconds": 20}
    recipe.write_text(yaml.safe_dump(values))
    (near, first), (far, _) = hosts.items()
    log = tmp_path / f"{near}.log"
    running = [torchrun(host, address, first, recipe) for host, address in hosts.items()]
    try:
        last = run / "weights" / "last.pt"
        deadline = time.monotonic() + SECONDS
        while not (last.exists() and load_checkpoint(last).training["counters"]["iteration"] >= 6):
            assert all(process.poll() is None for process in running), log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ip("-n", far, "link", "set", "wire", "down")
        running[0].wait(SECONDS)
    finally:
        for process in running:
            stop(process)
    errors = log.read_text()
    assert running[0].returncode == 1, errors
    assert "aweigh: process 0 of 2: lost contact with the others" in errors
    assert "go on with --resume" in errors
    stopped = load_checkpoint(last).training["counters"]["iteration"]
    assert 6 <= stopped < 90
    assert [path.name for path in run.rglob(".*")] == [".lock"]  # of the writer; no temporary file

    assert main(["train", "--resume", "--project", tiny_config.project, "--name", tiny_config.name]) == 0
    assert load_checkpoint(last).training["counters"]["iteration"] == 90

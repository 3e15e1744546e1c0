"""Several processes by ``--devices``: one run, however they end, and however many go on with it."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from torch.distributed.elastic.multiprocessing import ProcessFailure
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import AweighError, BadInput, CannotRun, CheckFailed
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.config import TrainConfig
from aweigh.train.data.open import load_split
from aweigh.train.evaluation.predictors import TorchPredictor
from aweigh.train.evaluation.run import evaluate_network
from aweigh.train.models.deployable import Deployable
from aweigh.train.run.launch import first_failure

SECONDS = 600  # a hang, on any machine
EPOCHS, PER_EPOCH = 8, 6


def start(*flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "aweigh.runtime.cli", "train", *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stderr."""
    try:
        _, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, errors


def iteration(run: Path) -> int:
    last = run / "weights" / "last.pt"
    return int(load_checkpoint(last).training["counters"]["iteration"]) if last.exists() else -1


def wait_for_iteration(process: subprocess.Popen[str], run: Path, wanted: int) -> None:
    deadline = time.monotonic() + SECONDS
    while iteration(run) < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def workers(launcher: int) -> dict[int, int]:
    """Process id by rank."""
    found = {}
    for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        ranks = [int(entry[5:]) for entry in environment if entry.startswith(b"RANK=")]
        found |= dict.fromkeys(ranks, int(pid))
    return found


def test_interrupted_killed_and_finished_by_one(tiny_config: TrainConfig, tmp_path: Path) -> None:
    recipe, run = tmp_path / "recipe.yaml", tiny_config.run_dir
    values = {**tiny_config.to_dict(), "method": "fcos", "epochs": EPOCHS, "val_every": 1, "batch": 4}
    recipe.write_text(yaml.safe_dump(values))
    named = ["--project", tiny_config.project, "--name", tiny_config.name]

    # Slurm and others end a run by SIGTERM: all processes finish their step, one writes.
    process = start("--config", str(recipe), "--devices", "2", "--accumulate", "2")
    wait_for_iteration(process, run, 0)
    process.send_signal(signal.SIGTERM)
    code, errors = ended(process)
    assert code == 130, errors
    stopped = iteration(run)
    assert f"interrupted at iteration {stopped}; go on with --resume" in errors
    assert errors.count("2 processes") == 1, "the first process speaks for all"

    # One that is killed takes the other with it, and the run says so.
    process = start("--resume", *named, "--devices", "2")
    wait_for_iteration(process, run, stopped + PER_EPOCH)
    pids = workers(process.pid)
    assert sorted(pids) == [0, 1]
    os.kill(pids[1], signal.SIGKILL)
    code, errors = ended(process)
    assert code == 3, errors
    assert "process 1 ended (killed by SIGKILL)" in errors
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())
    assert [path.name for path in run.rglob(".*")] == [".lock"]  # of the writer; no temporary file

    # What two processes measured together is what one measures alone.
    best = load_checkpoint(run / "weights" / "best.pt")
    predictor = TorchPredictor(Deployable(best.detector(), best.spec.post), best.spec)
    alone = evaluate_network(predictor, load_split(tiny_config.data, "val"), batch=4)
    assert {**alone.to_dict(), "iteration": best.metrics["iteration"]} == best.metrics

    assert main(["train", "--resume", *named]) == 0
    recorded = yaml.safe_load((run / "args.yaml").read_text())
    assert (recorded["devices"], recorded["resolved"]["processes"]) == (1, 1)
    with (run / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == [PER_EPOCH * (i + 1) for i in range(EPOCHS)]


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--batch", "3", "--devices", "2", "--accumulate", "2"], 2, "--batch 3: cannot be shared by 2 processes in 2"),
        (["--devices", "2", "--device", "cuda:0"], 2, "give the kind only, --device cuda"),
        (["--devices", "64", "--batch", "64", "--device", "cuda"], 3, "for 64 processes: torch .* sees . CUDA devices"),
        (["--devices", "0"], 2, "--devices 0: expected 1 to 1024"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(
    flags: list[str], code: int, message: str, shapes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", str(shapes), *flags]) == code
    assert re.search(message, capfd.readouterr().err)


def test_devices_that_torchrun_did_not_start(
    tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    numbers = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {"TORCHELASTIC_RUN_ID": "test", **numbers}.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "--data", tiny_config.data, "--devices", "3"]) == 2
    assert "--devices 3: torchrun started 2 processes on this machine" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("exit_code", "said", "expected", "message"),
    [
        (1, "aweigh: loss is not finite", CheckFailed, "^process 1: loss is not finite$"),
        (2, "warning\naweigh: no such file", BadInput, "^process 1: no such file$"),
        (3, "aweigh: disk full\n\n", CannotRun, "^process 1: disk full$"),
        (130, "aweigh: interrupted", KeyboardInterrupt, "^$"),
        (-9, "", CannotRun, r"^process 1 ended \(killed by SIGKILL\), and .* --resume"),
        (77, "ValueError: x", CannotRun, r"^process 1 ended \(exit code 77\), and the others with it: ValueError: x\."),
    ],
)
def test_a_failed_process_becomes_the_error_of_the_whole(
    exit_code: int, said: str, expected: type[BaseException], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run" / "attempt_0" / "1"
    folder.mkdir(parents=True)
    (folder / "stderr.log").write_text(said)
    failures = {
        1: ProcessFailure(local_rank=1, pid=1, exitcode=exit_code, error_file=str(folder / "error.json")),
        0: ProcessFailure(local_rank=0, pid=2, exitcode=-15, error_file=str(tmp_path / "other" / "error.json")),
    }
    failures[0].timestamp = failures[1].timestamp + 1
    error = first_failure(ChildFailedError("train", failures), tmp_path)
    assert type(error) is expected
    with pytest.raises((AweighError, KeyboardInterrupt), match=message):
        raise error


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_train_over_nccl(tiny_config: TrainConfig, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**tiny_config.to_dict(), "device": "cuda", "devices": 2, "accumulate": 2}))
    code, errors = ended(start("--config", str(recipe)))
    assert code == 0, errors
    assert iteration(tiny_config.run_dir) == 6

"""``aweigh train --devices N``: the processes of one machine, started and watched by torch's elastic agent.

torchrun runs the same agent; this adds a message and an exit code. Each process gets the command line of one process.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import yaml

from aweigh.runtime.atomic import temporary_folder
from aweigh.runtime.errors import AweighError, BadInput, CannotRun, CheckFailed
from aweigh.train.config import PLACE_FLAGS, TrainConfig
from aweigh.train.process.device import resolve_device

_ERRORS = {error.exit_code: error for error in (CheckFailed, BadInput, CannotRun)}
_INTERRUPTED = 130
# For a step, a validation and a checkpoint to end after Ctrl-C, before the processes are killed.
_GRACE_SECONDS = 120


def train_on_devices(config: TrainConfig, resume: bool) -> None:
    """Train in ``config.devices`` processes, to the end.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run can be resumed.
        AweighError: as the process that failed first raised it; CannotRun where it was killed. The others have ended.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if not resume:  # a resumed run takes its device from the checkpoint
        resolve_device(config.device, processes=config.devices)  # one message, and before anything is started
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    # In containers the machine's name may not resolve to it; its own processes meet on the loopback.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with temporary_folder() as folder:
        arguments = ["-m", "aweigh.runtime.cli", "train", *_flags(config, resume, folder / "recipe.yaml")]
        # Rank 0 prints; the output of the others is kept until it is known which process failed first.
        logs = DefaultLogsSpecs(
            str(folder), redirects={rank: Std.ALL if rank else Std.OUT for rank in range(config.devices)}
        )
        launch = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=config.devices,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            shutdown_timeout=_GRACE_SECONDS,
            logs_specs=logs,
        )
        try:
            elastic_launch(launch, sys.executable)(*arguments)
        except SignalException as error:
            raise KeyboardInterrupt from error
        except ChildFailedError as error:
            raise first_failure(error, folder) from error


def _flags(config: TrainConfig, resume: bool, recipe: Path) -> list[str]:
    values = config.to_dict()
    if not resume:
        recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
        return ["--config", str(recipe)]
    named = [f"--{name.replace('_', '-')}={values[name]}" for name in ("data", "project", "name", *PLACE_FLAGS)]
    return ["--resume", *named]


def first_failure(error: Any, folder: Path) -> BaseException:
    """The error of the process that failed first, which becomes the error of the run.

    Args:
        error: torch's ChildFailedError.
        folder: of the processes' logs.
    """
    rank, failure = error.get_first_failure()
    if failure.exitcode == _INTERRUPTED:
        return KeyboardInterrupt()
    message = _last_line(folder, rank)
    if failure.exitcode in _ERRORS:
        kind: type[AweighError] = _ERRORS[failure.exitcode]
        return kind(f"process {rank}: {message}" if message else f"process {rank} failed; its message is above")
    how = f"exit code {failure.exitcode}"
    if failure.exitcode < 0:
        how = f"killed by {signal.Signals(-failure.exitcode).name}"
    return CannotRun(
        f"process {rank} ended ({how}), and the others with it"
        + (f": {message}" if message else "")
        + ". The last checkpoint "
        "is whole: go on with --resume, on any number of processes. SIGKILL is how the system frees memory; smaller "
        "parts take less (--accumulate)"
    )


def _last_line(folder: Path, rank: int) -> str:
    """The last line on stderr of a process other than the first, without the name of the program.

    Torch keeps the logs as RUN/attempt_N/RANK/stderr.log.
    """
    lines = [
        line
        for log in sorted(folder.glob(f"*/attempt_*/{rank}/stderr.log"))
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    return lines[-1].removeprefix("aweigh: ") if lines else ""

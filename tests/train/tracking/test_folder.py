"""A run's folder has one writer at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.tracking.folder import RunDir

_WRITER = """
import os, sys, time
from pathlib import Path
from aweigh.train.tracking.folder import RunDir

folder = RunDir(Path(sys.argv[1]))
folder.create(exist_ok=False)
if os.fork() == 0:  # a worker, which outlives its parent for a while
    time.sleep(5)
    os._exit(0)
print("ready", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        second = RunDir(path)
        with pytest.raises(BadInput, match="another process trains in this folder"):
            second.lock()
        with pytest.raises(BadInput, match="another process trains in this folder"):
            second.create(exist_ok=True)
        writer.kill()
        writer.wait()
        second.lock()  # though its worker still runs
        second.close()
        writer.stdout.close()


def test_the_lock_follows_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("stays")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").symlink_to(victim)
    with pytest.raises(OSError, match=r"\.lock"):
        RunDir(folder).lock()
    assert victim.read_text() == "stays"


def test_replacing_a_run_keeps_its_best_weights_until_there_are_new_ones(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create(exist_ok=False)
    for path in (folder.best, folder.last, folder.results):
        path.write_text("old")
    folder.close()
    folder.create(exist_ok=True)
    folder.close()
    assert (folder.best.read_text(), folder.last.exists(), folder.results.exists()) == ("old", False, False)
    with pytest.raises(BadInput, match="a run of this name exists"):
        folder.create(exist_ok=False)
    assert os.listdir(folder.path / "weights") == ["best.pt"]

"""Commands killed at any time: no file is half-written, and the next start leaves nothing of those before.

``AWEIGH_KILLS`` is the number of kills of each of the four commands; without it there are six in all.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import pytest
from checkpoints import save_untrained
from red import red_picture
from server_process import write_model

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256, receipt_path
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.inspection import inspect_model
from aweigh.runtime.results.files import read_predictions
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.tracking.folder import RunDir

_GIVEN = os.environ.get("AWEIGH_KILLS")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
_STARTED_S = 15.0  # in which a server listens on a slow machine too: one that is still starting ends with 143
Arguments = list[str]
# What libraries make in TMPDIR when they are imported or opened, and leave there.
OF_LIBRARIES = ("torchinductor_*", ".ses")


@dataclass
class Commands:
    """Runs commands in children of a prepared process, with a folder of their own for temporary files.

    Attributes:
        process: of tests/support/prepared.py.
        temporary: TMPDIR of the commands.
        log: their output.
    """

    process: subprocess.Popen[str]
    temporary: Path
    log: Path

    def tail(self) -> str:
        """The end of their output."""
        return self.log.read_text()[-3000:]

    def left(self) -> list[Path]:
        """What the commands left in TMPDIR."""
        return [path for path in self.temporary.iterdir() if not any(map(path.match, OF_LIBRARIES))]

    def run(self, arguments: Arguments, after_s: float | None = None, number: int = signal.SIGKILL) -> int:
        """The exit code; minus the signal where one ended it. Sends a signal so many seconds after the start.

        Whatever the command started has to end with it.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        if after_s is not None:
            time.sleep(after_s)
            with suppress(ProcessLookupError):
                os.kill(child, number)
        code = int(self.process.stdout.readline())
        deadline = time.monotonic() + 30
        while alive := _of_session(child):
            assert time.monotonic() < deadline, f"{arguments[0]} left processes behind: {alive}"
            time.sleep(0.05)
        return code


def _of_session(leader: int) -> list[str]:
    """Command lines of the processes of a session that have not ended."""
    lines = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, IndexError):
            if folder.name.isdecimal():
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == leader and state not in "ZX":
                    lines.append((folder / "cmdline").read_text().replace("\0", " "))
    return lines


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    root = tmp_path_factory.mktemp("kills")
    (root / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(root / "tmp"), "OMP_NUM_THREADS": "1"}
    script = Path(__file__).parent / "support" / "prepared.py"
    with (root / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        yield Commands(process, root / "tmp", root / "log")
        process.kill()
        process.communicate()


def kill_often(
    commands: Commands, arguments: Arguments, whole: Callable[[], None], few: int = 2, lasts_s: float | None = None
) -> None:
    """Kill a command anywhere from its start to its end, and look at its files each time.

    Args:
        whole: raises where a file is half-written.
        few: kills where AWEIGH_KILLS does not say how many.
        lasts_s: how long a command that does not end by itself is let run at most; None for one that ends.
    """
    started = time.monotonic()
    code = commands.run(arguments, None if lasts_s is None else _STARTED_S, signal.SIGTERM)
    assert code == 0, commands.tail()
    seconds = lasts_s or time.monotonic() - started
    whole()
    draws = random.Random(few)
    ended: Counter[int] = Counter()
    kills = int(_GIVEN or few)
    for kill in range(kills):
        number = SIGNALS[kill % len(SIGNALS)]
        started = time.monotonic()
        code = commands.run(arguments, draws.uniform(0, seconds), number)
        # Training ends after its step, as after Ctrl-C.
        assert code in (0, -number, 128 + number, 130), f"exit code {code} of {arguments[0]}: {commands.tail()}"
        if code == 0 and lasts_s is None:  # it is faster than before
            seconds = min(seconds, time.monotonic() - started)
        ended[code] += 1
        whole()
    print(f"{arguments[0]}: {kills} kills within {seconds:.1f} s, exit codes {dict(sorted(ended.items()))}")


def leftovers(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if ".aweigh-" in path.name]


def require_json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def test_predict(commands: Commands, tmp_path: Path) -> None:
    model = write_model(tmp_path / "red.onnx", slow=2)
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for i in range(12):
        assert cv2.imwrite(str(source / f"{i}.png"), red_picture())
    video = cv2.VideoWriter(str(source / "clip.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (192, 128))
    for _ in range(12):
        video.write(red_picture())
    video.release()

    def whole() -> None:
        if (out / "detections.json").exists():
            assert len(read_predictions(out / "detections.json")) == 24
        require_json(out / "failures.json")
        for image in out.glob("*.png"):
            assert not image.name.startswith(".") or ".aweigh-" in image.name
            assert ".aweigh-" in image.name or cv2.imread(str(image)) is not None
        for clip in out.glob("[!.]*.mp4"):
            assert cv2.VideoCapture(str(clip)).get(cv2.CAP_PROP_FRAME_COUNT) == 12

    arguments = ["predict", "--model", str(model), "--source", str(source), "--out", str(out), "--threads", "1"]
    kill_often(commands, arguments, whole)
    assert commands.run(arguments) == 0
    whole()
    assert leftovers(out) == []
    assert commands.left() == []


def test_train(commands: Commands, tmp_path: Path) -> None:
    data = generate_shapes(tmp_path / "data", train=16, val=4, size_hw=(64, 64))
    recipe = tmp_path / "recipe.yaml"
    network = "{width: 8, channels: 16, convs: 1}"
    recipe.write_text(f"data: {data}\nmodel: nano\nimgsz: 64\nepochs: 3\nbatch: 8\nthreads: 1\nnetwork: {network}\n")
    place = ["--project", str(tmp_path / "runs"), "--name", "killed"]
    begin = ["train", "--config", str(recipe), "--workers", "1", "--cache", "disk", *place, "--exist-ok"]
    folder = RunDir(tmp_path / "runs" / "killed")

    def whole() -> None:
        for path in (folder.best, folder.last):
            if path.exists():
                load_checkpoint(path).detector()
        folder.rows()
        for name in ("summary.json", "env.json", "curves.json"):
            require_json(folder.path / name)
        if (folder.path / "args.yaml").exists():
            folder.recorded("transfer")

    kill_often(commands, begin, whole)
    if folder.last.exists():  # the run that was killed last goes on
        assert commands.run(["train", "--resume", *place]) == 0
    assert commands.run(begin) == 0
    whole()
    assert leftovers(folder.path) == []
    assert len(list((folder.path / "cache").glob("*.u8"))) == 1
    assert commands.left() == []


def test_export(commands: Commands, tmp_path: Path) -> None:
    checkpoint = save_untrained("fcos", tmp_path / "best.pt")
    out = tmp_path / "model.onnx"

    def whole() -> None:
        if out.exists():
            read_onnx(out).spec(out)
            receipt = require_json(receipt_path(out))
            assert receipt is None or receipt["sha256"] == file_sha256(out)
            inspect_model(out)

    arguments = ["export", "--model", str(checkpoint), "--out", str(out), "--threads", "1", "--golden", "0"]
    kill_often(commands, arguments, whole, few=1)
    assert commands.run(arguments) == 0
    whole()
    assert leftovers(tmp_path) == []
    assert commands.left() == []


def test_serve(commands: Commands, tmp_path: Path) -> None:
    model = write_model(tmp_path / "red.onnx")
    before = model.read_bytes()
    shared = set(Path("/dev/shm").iterdir())

    def whole() -> None:
        assert model.read_bytes() == before

    arguments = ["serve", "--model", str(model), "--port", "0", "--grpc-port", "0", "--threads", "1"]
    kill_often(commands, arguments, whole, few=1, lasts_s=2.0)
    assert commands.run(arguments, _STARTED_S, signal.SIGTERM) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["red.onnx"]
    assert commands.left() == []
    assert set(Path("/dev/shm").iterdir()) <= shared


def test_a_run_that_is_killed_is_no_bad_input(tmp_path: Path) -> None:
    """The checks above can fail: a cut file is refused by them."""
    save_untrained("fcos", tmp_path / "best.pt")
    data = (tmp_path / "best.pt").read_bytes()
    (tmp_path / "best.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput):
        load_checkpoint(tmp_path / "best.pt")

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aweigh.runtime.atomic import atomic_write, temporary_folder


def test_the_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "result.json"
    with atomic_write(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".json"
        assert temporary.name.startswith(".")
        temporary.write_text("done")
        assert not target.exists()
    assert target.read_text() == "done"
    assert os.listdir(target.parent) == ["result.json"]


def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")

    def interrupted() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "x"):
        pass
    assert not (tmp_path / "x").exists()


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with atomic_write(tmp_path / "x") as temporary:
            temporary.write_bytes(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644


def test_long_names_stay_within_the_file_system_limit(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 250 + ".png")
    with atomic_write(target) as temporary:
        temporary.write_bytes(b"x")
    assert target.read_bytes() == b"x"


_WRITER = """
import sys
from pathlib import Path
from aweigh.runtime.atomic import atomic_write, temporary_folder

folder = Path(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    number += 1
    with atomic_write(folder / "model.bin") as temporary:
        with temporary.open("wb") as file:
            for _ in range(64):  # in pieces, so that a kill finds some of them missing
                file.write(bytes([number % 251]) * 16384)
    with atomic_write(folder / "model.json") as temporary:
        temporary.write_text(str(number))
"""


def test_kill_at_any_time_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    """kill -9 while 1 MiB files replace each other without pause."""
    interrupted = 0
    numbers = []
    for attempt in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            while not (tmp_path / "model.json").exists():
                time.sleep(0.001)
            time.sleep(0.011 * attempt)
            writer.kill()
        content = (tmp_path / "model.bin").read_bytes()
        assert content == content[:1] * (64 * 16384)
        numbers.append(int((tmp_path / "model.json").read_text()))
        rests = [path for path in tmp_path.iterdir() if path.name.startswith(".")]
        assert len(rests) <= 1  # what cannot be cleaned up any more is hidden
        for rest in rests:
            interrupted += 1
            rest.unlink()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.json"]
        for path in tmp_path.iterdir():
            path.unlink()
    assert max(numbers) > 1
    assert interrupted > 0  # at least one kill came before a file was in place


_HOLDER = """
import sys, time
from aweigh.runtime.atomic import PendingFile

pending = PendingFile(sys.argv[1])
pending.temporary.write_text("half")
print("ready", flush=True)
time.sleep(60)
"""

_ONCE = """
import sys
from aweigh.runtime.atomic import atomic_write, temporary_folder

with atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("whole")
"""


def _hold(target: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(target)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    return holder


def test_the_next_writer_sweeps_what_killed_ones_left_and_nothing_that_is_held(tmp_path: Path) -> None:
    """Of other files of the folder too; files of a user that look alike stay."""
    kept = [tmp_path / ".notes.acb45305ed8c.txt", tmp_path / ".aweigh-acb45305ed8c"]
    for path in kept:
        path.write_text("a user's")
    with _hold(tmp_path / "a.pt") as killed, _hold(tmp_path / "b.tar.gz") as alive:
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.glob(".*aweigh-*.*"))) == 2
        subprocess.run([sys.executable, "-c", _ONCE, str(tmp_path / "c.json")], check=True)
        assert [path.name[:10] for path in tmp_path.glob(".*aweigh-*.*")] == [".b.tar.awe"]
        alive.kill()
    assert all(path.read_text() == "a user's" for path in kept)


_FOLDER_HOLDER = """
import sys, time
from pathlib import Path
from aweigh.runtime.atomic import atomic_folder, temporary_folder

with temporary_folder() if sys.argv[1] == "temporary" else atomic_folder(sys.argv[1]) as folder:
    (folder / "half.txt").write_text("half")
    print(folder, flush=True)
    time.sleep(60)
"""

_FOLDER_ONCE = _FOLDER_HOLDER.replace("time.sleep(60)", "")


@pytest.mark.parametrize("kind", ["temporary", "named"])
def test_the_next_folder_sweeps_those_that_killed_processes_left(tmp_path: Path, kind: str) -> None:
    """As the next file does; folders of a user that look alike stay."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    argument = kind if kind == "temporary" else str(tmp_path / "set")
    kept = [tmp_path / "tmp0bg26xpd", tmp_path / "results.aweigh-acb45305ed8c", tmp_path / ".set.acb45305ed8c.tmp"]
    for folder in kept:
        folder.mkdir()
        (folder / "a.txt").write_text("a user's")

    def hold() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _FOLDER_HOLDER, argument]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    with hold() as killed, hold() as alive:
        assert killed.stdout is not None
        assert alive.stdout is not None
        left, held = Path(killed.stdout.readline().strip()), Path(alive.stdout.readline().strip())
        killed.kill()
        killed.wait()
        assert (left / "half.txt").exists()
        subprocess.run([sys.executable, "-c", _FOLDER_ONCE, argument], check=True, env=environment)
        assert not left.exists()
        assert (held / "half.txt").read_text() == "half"
        alive.kill()
    assert all((folder / "a.txt").read_text() == "a user's" for folder in kept)
    assert (tmp_path / "set" / "half.txt").exists() == (kind == "named")


def test_a_temporary_folder_is_private_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.parent == tmp_path
        (folder / "a.txt").write_text("for a moment")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    target = tmp_path / "secret.json"
    target.write_text("old")
    target.chmod(mode)
    with atomic_write(target) as temporary:
        temporary.write_text("new")
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("new", mode)


def test_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("stays")
    (tmp_path / "link.json").symlink_to(victim)
    with atomic_write(tmp_path / "link.json") as temporary:
        temporary.write_text("new")
    assert victim.read_text() == "stays"
    assert not (tmp_path / "link.json").is_symlink()


def test_long_names_of_many_bytes(tmp_path: Path) -> None:
    target = tmp_path / ("\u00e9\u4e2d" * 45 + ".json")
    with atomic_write(target) as temporary:
        temporary.write_text("x")
    assert target.read_text() == "x"

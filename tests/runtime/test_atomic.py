from __future__ import annotations

import os
from pathlib import Path

import pytest

from aweigh.runtime.atomic import atomic_write


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

"""Another checkout of the repository, found before anything is measured."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from aweigh.runtime.errors import BadInput
from support.checkouts import HERE, commit_of, other_checkout


def test_a_folder_without_an_environment_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=re.escape(f"{tmp_path}: expected a virtual environment in .venv")):
        other_checkout(tmp_path)


def test_the_commit_is_the_one_that_git_checked_out(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    first = git("rev-parse", "HEAD")
    git("commit", "-q", "--allow-empty", "-m", "second")
    assert commit_of(tmp_path) == git("rev-parse", "HEAD")[:12] != first[:12]


def test_this_checkout_is_the_repository() -> None:
    assert (HERE / "pyproject.toml").is_file()

"""Packages of npm, for tests; skipped with a reason where npm or the package is missing."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

_SECONDS = 300


def packed(package: str, folder: Path, *names: str) -> Path:
    """The files of these names of the package NAME@VERSION, unpacked in ``folder``."""
    target = folder / package.replace("/", "-")
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / npm(folder, "pack", package, "--prefer-offline", "--silent").split()[-1]
        with tarfile.open(archive) as content:
            members = [member for member in content if Path(member.name).name in names]
            content.extractall(target, members, filter="data")
    return target / "package"


def npm(folder: Path, *arguments: str) -> str:
    """What npm prints; the test is skipped where it is missing or fails, as without a network."""
    executable = shutil.which("npm")
    if executable is None:
        pytest.skip("npm is not installed")
    command = [executable, *arguments, "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm {arguments[0]} gave nothing within {_SECONDS} s")
    if done.returncode:
        pytest.skip(f"npm {arguments[0]} failed: {done.stderr.strip()[:200]}")
    return done.stdout

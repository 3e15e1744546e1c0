"""This checkout of the repository and another one, each with a virtual environment of its own, to be compared."""

from __future__ import annotations

import subprocess
from pathlib import Path

from aweigh.runtime.errors import BadInput

HERE = Path(__file__).resolve().parent.parent.parent


def other_checkout(path: Path) -> Path:
    """The absolute path of another checkout. BadInput where it, or this one, lacks its environment in .venv."""
    other = path.resolve()
    for checkout in (other, HERE):
        if not (checkout / ".venv" / "bin" / "aweigh").exists():
            raise BadInput(f"{checkout}: expected a virtual environment in .venv; run `make .venv/.installed` there")
    return other


def commit_of(checkout: Path) -> str:
    """The first 12 digits of the commit that is checked out there."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

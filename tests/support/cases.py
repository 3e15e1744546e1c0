"""Data sets with one peculiarity each, found through AWEIGH_TEST_DATA."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def case(name: str, tmp_path: Path) -> Path:
    """A copy of ``cases/data/NAME``; skips the test where there is none."""
    material = os.environ.get("AWEIGH_TEST_DATA")
    if not material:
        pytest.skip("AWEIGH_TEST_DATA names no folder with test material")
    folder = Path(material) / "cases" / "data" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return Path(shutil.copytree(folder, tmp_path / "case", symlinks=True))

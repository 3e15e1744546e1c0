"""The names that a user imports from ``aweigh.runtime``."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import version

import pytest

import aweigh.runtime


def test_every_public_name_is_there() -> None:
    for name in aweigh.runtime.__all__:
        assert getattr(aweigh.runtime, name).__name__ == name
    assert set(dir(aweigh.runtime)) == {*aweigh.runtime.__all__, "__version__"}
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        _ = aweigh.runtime.train  # type: ignore[attr-defined]


def test_no_public_name_is_hidden_by_a_folder() -> None:
    """A sub-package that is imported becomes an attribute of its package."""
    for name in aweigh.runtime.__all__:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"aweigh.runtime.{name}")


def test_the_version_is_that_of_the_installed_package() -> None:
    assert aweigh.runtime.__version__ == version("aweigh")


def test_the_version_costs_no_import_of_numpy() -> None:
    program = "import sys, aweigh.runtime; aweigh.runtime.__version__; print({'numpy', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

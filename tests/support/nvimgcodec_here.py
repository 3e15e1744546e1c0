"""Whether nvImageCodec is installed, found without importing it: the package sets it up when it imports it."""

from __future__ import annotations

import importlib.util

import pytest


def _installed() -> bool:
    try:
        return importlib.util.find_spec("nvidia.nvimgcodec") is not None
    except ModuleNotFoundError:  # no package of nvidia at all
        return False


INSTALLED, REASON = _installed(), "nvImageCodec is not installed: make test EXTRAS=nvimagecodec"
NEEDS_NVIMGCODEC = pytest.mark.skipif(not INSTALLED, reason=REASON)

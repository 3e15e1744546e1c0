"""Weights by their source, with a bar on the terminal of rank 0."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from aweigh.runtime.cli.output import download_progress
from aweigh.runtime.files.fetch import fetch
from aweigh.train.process.console import console

# The safe format first; of a pickle only tensors are read.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def fetch_weights(source: str, flag: str = "--weights") -> Path:
    """A local file with the weights; fetched ones are kept under ``$AWEIGH_CACHE`` (default ``~/.cache/aweigh``).

    Args:
        source: as for :func:`aweigh.runtime.files.fetch.fetch`; of a repository without a file
            ``model.safetensors``, else ``pytorch_model.bin``.
        flag: begins every message.

    Raises:
        BadInput, CannotRun: as :func:`aweigh.runtime.files.fetch.fetch`.
    """
    return fetch(source, flag, _HUB_FILES, partial(download_progress, console=console()))

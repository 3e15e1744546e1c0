"""Files of tensors, read without executing anything in them."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from aweigh.runtime.errors import BadInput, CannotRun


def read_tensors(path: Path, flag: str) -> Any:
    """What torch.save wrote, tensors and plain containers only, or the named tensors of a ``.safetensors``.

    Raises:
        BadInput: naming ``flag`` and the file: not there, cut off, or holding what only a pickle could execute.
        CannotRun: safetensors is not installed.
    """
    if not path.is_file():
        raise BadInput(f"{flag} {path}: no such file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, flag)
    try:
        with warnings.catch_warnings():
            # torch warns of the pickle protocol of files it is about to refuse.
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError) as error:
        reason = str(error).split("\n", 1)[0]
        raise BadInput(f"{flag} {path}: not a file of tensors that can be loaded safely ({reason})") from error


def _read_safetensors(path: Path, flag: str) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise CannotRun(f"{flag} {path}: needs safetensors: pip install 'aweigh[hub]'") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BadInput(f"{flag} {path}: not a file of tensors that can be loaded safely ({error})") from error

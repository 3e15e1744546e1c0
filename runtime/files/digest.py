"""The digest of a file, and the receipt that names it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The hexadecimal SHA-256 of a file's bytes, 64 digits. Raises OSError where the file cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def receipt_path(model: str | os.PathLike[str]) -> Path:
    """Where the receipt of a model file is.

    Example:
        >>> receipt_path("runs/best.onnx").as_posix()
        'runs/best.receipt.json'
    """
    return Path(model).with_suffix(".receipt.json")

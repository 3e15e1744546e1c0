"""Files of tensors, read without executing anything in them."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from aweigh.runtime.errors import BadInput, CannotRun, install_advice


def read_tensors(path: Path, flag: str, data: bytes | None = None) -> Any:
    """What torch.save wrote, tensors and plain containers only, or the named tensors of a ``.safetensors``.

    Args:
        path: the file.
        flag: begins every message.
        data: the bytes of the file, where they were read already; not of a ``.safetensors``.

    Raises:
        BadInput: naming ``flag`` and the file: not there, cut off, or holding what only a pickle could execute.
        CannotRun: safetensors is not installed.
    """
    if data is None and not path.is_file():
        raise BadInput(f"{flag} {path}: no such file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, flag)
    source = path.open("rb") if data is None else io.BytesIO(data)
    with source:
        _require_stored(source, f"{flag} {path}")
        return _load(source, f"{flag} {path}")


def _require_stored(source: BinaryIO, where: str) -> None:
    """Raises BadInput for an archive that is compressed, as torch's never are: a small one may fill the memory."""
    try:
        archived = zipfile.is_zipfile(source)
        if archived:
            with zipfile.ZipFile(source) as archive:
                members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, UnicodeError) as error:
        raise BadInput(f"{where}: not a file of tensors that can be loaded safely ({error})") from error
    if archived:
        size = source.seek(0, io.SEEK_END)
        if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > size:
            raise BadInput(f"{where}: not a file of tensors that can be loaded safely (its members are compressed)")
    source.seek(0)


def _load(source: BinaryIO, where: str) -> Any:
    try:
        with warnings.catch_warnings():
            # torch warns of the pickle protocol of files it is about to refuse.
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            return torch.load(source, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch reads a pickle's orders, any of which may fail in any way
        reason = str(error).split("\n", 1)[0][:300]
        if "weights_only" in reason:  # torch advises to load it unsafely
            reason = "not a file of torch.save, or one with more in it than tensors and plain values"
        raise BadInput(f"{where}: not a file of tensors that can be loaded safely ({reason})") from error


def _read_safetensors(path: Path, flag: str) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise CannotRun(f"{flag} {path}: needs safetensors: {install_advice('hub')}") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BadInput(f"{flag} {path}: not a file of tensors that can be loaded safely ({error})") from error

"""Files of NumPy arrays (.npz), of which nothing is executed."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.reading import read_once

_MOST_BYTES = 1 << 30  # of all arrays; reference numbers have a few megabytes


def read_arrays(path: Path, where: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an ``.npz`` file by name; ``where`` begins every message.

    Raises:
        BadInput: no such file, one that is no npz or damaged, holds Python objects, or inflates to more than 1 GiB.
    """
    content = io.BytesIO(read_once(path, "file of arrays"))
    try:
        with zipfile.ZipFile(content) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _MOST_BYTES:
            raise BadInput(f"{where}: its arrays have {size} bytes, expected at most {_MOST_BYTES}")
        content.seek(0)
        with np.load(content, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    except BadInput:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's parser of headers each have errors of their own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise BadInput(f"{where}: not a file of arrays (.npz): {reason}") from error

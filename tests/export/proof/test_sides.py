"""A side of a comparison is of one reading of its file: hash, contract, network and stages are of the same bytes."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from quantised import quantised_convolution

from aweigh.export.proof.sides import open_side, session_of

OPENED: list[str] = []
_hooked: list[bool] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        OPENED.append(os.fsdecode(os.fspath(arguments[0])))


@pytest.fixture
def opened() -> list[str]:
    """Names of the files that this process opens from now on."""
    if not _hooked:  # such a hook stays
        _hooked.append(True)
        sys.addaudithook(_watch)
    OPENED.clear()
    return OPENED


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_a_file_is_read_once(
    suffix: str,
    opened: list[str],
    make_export: Callable[..., Path],
    make_checkpoint: Callable[..., Path],
    tmp_path: Path,
) -> None:
    source = make_export("fcos") if suffix == ".onnx" else make_checkpoint("fcos")
    path = tmp_path / f"model{suffix}"
    path.write_bytes(source.read_bytes())
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    opened.clear()
    with open_side(path, threads=1) as side:
        assert side.sha256 == expected
    assert opened.count(str(path)) == 1


def test_int8_of_the_stages_is_added_without_overflow() -> None:
    """As the runtime does: else a receipt made on a CPU without VNNI blames the file."""
    weight = np.full((4, 16, 1, 1), 127, np.int8)
    session = session_of(ir.from_proto(onnx.load_from_string(quantised_convolution(weight))), threads=1)
    [out] = session.run(["out"], {"x": np.full((1, 16, 8, 8), 127, np.float32)})
    expected = np.clip(np.rint(16 * 127 * 127 / 512), -128, 127) * 512
    np.testing.assert_array_equal(out, np.full((1, 4, 8, 8), expected, np.float32))

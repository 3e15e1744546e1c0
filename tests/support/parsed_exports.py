"""Every ONNX file that the tests export is parsed and audited by the real TensorRT, where that is installed."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime.errors import AweighError
from aweigh.runtime.files.flavours import RTX
from aweigh.runtime.files.onnx import read_onnx


@contextmanager
def exports_parsed() -> Iterator[None]:
    """While it lasts, a test that writes a graph which TensorRT for RTX does not take fails at that point.

    ``write_onnx`` writes all of them, under whatever verb, function or option; it is wrapped in every module that has
    it. Nothing happens where no collected test imports the exporter, which would cost seconds.
    """
    writer = sys.modules.get("aweigh.export.to_onnx")
    if writer is None or find_spec(RTX.modules[0]) is None:
        yield
        return
    write_onnx, known = writer.write_onnx, set[str]()

    @wraps(write_onnx)
    def written(model: Any, spec: Any, path: Any, *more: Any, **named: Any) -> Any:
        result = write_onnx(model, spec, path, *more, **named)
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        if digest not in known:
            known.add(digest)
            _parse(Path(path))
        return result

    with pytest.MonkeyPatch.context() as patch:
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get("write_onnx") is write_onnx:
                patch.setattr(module, "write_onnx", written)
        yield


def _parse(path: Path) -> None:
    from aweigh.export.engine.network import parse_network
    from aweigh.runtime.backends.tensorrt.library import load

    file = read_onnx(path)
    if '"encoding": "onnxruntime"' in file.metadata.get("aweigh.precision", ""):
        return  # refused, rightly: see export/engine/test_rtx.py
    try:
        parse_network(load(RTX), RTX, path.read_bytes(), path.name, file, file.spec(path))
    except AweighError as e:
        # No Exception, so that no handler between here and the test takes it for the user's mistake.
        pytest.fail(f"{path.name}: {e}")

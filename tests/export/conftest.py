"""Small untrained detectors that detect much, as checkpoints and as exported files; made once per run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from checkpoints import save_untrained
from made_once import made_once, shared_folder
from torch import Tensor, nn

from aweigh.export import ExportOptions, export
from aweigh.export.to_onnx import to_graph
from aweigh.train.checkpoint import Checkpoint, load_checkpoint

MakeCheckpoint = Callable[[str], Path]
MakeExport = Callable[..., Path]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def to_session() -> Callable[..., Callable[..., list[Any]]]:
    """Makes a function of a torch module, its example and its free axes: tensors in, arrays of ONNX Runtime out."""

    def make(
        module: nn.Module, example: tuple[Tensor, ...], dynamic_shapes: tuple[dict[int, Any], ...]
    ) -> Callable[..., list[Any]]:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        content = ir.to_proto(to_graph(module, example, dynamic_shapes)).SerializeToString()
        session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]

        def run(*tensors: Tensor) -> list[Any]:
            outputs: list[Any] = session.run(None, dict(zip(names, (t.numpy() for t in tensors), strict=True)))
            return outputs

        return run

    return make


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """A checkpoint of a method, or of ``METHOD-one-to-one``."""
    folder = shared_folder(tmp_path_factory, "checkpoints")

    def make(method: str) -> Path:
        return made_once(folder / f"{method}.pt", lambda path: save_untrained(method, path))

    return make


@pytest.fixture(scope="session")
def make_export(make_checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> MakeExport:
    """An exported file of a method; every combination of options is exported once per run."""
    folder = shared_folder(tmp_path_factory, "exports")

    def make(method: str, **options: Any) -> Path:
        if options.get("nms") == "matrix":  # the default, which is no other file
            del options["nms"]
        chosen = ExportOptions(verify=False, **{"batch": (1, 4), "golden": 1, **options})
        # By all options, so that one that is given its default is no other file.
        key = hashlib.sha256(repr(chosen).encode()).hexdigest()[:12]
        path = folder / f"{method}-{key}.onnx"
        return made_once(path, lambda path: export(make_checkpoint(method), path, chosen))

    return make


@pytest.fixture
def checkpoint(make_checkpoint: MakeCheckpoint) -> Checkpoint:
    """The one most tests use."""
    return load_checkpoint(make_checkpoint("fcos"))

"""Small untrained detectors that detect much, as checkpoints and as exported files; made once per run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from aweigh.export.jobs.onnx import ExportOptions, run_export
from aweigh.export.to_onnx import to_graph
from aweigh.runtime.spec import InputSpec, ModelSpec
from aweigh.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from aweigh.train.data.shapes import SHAPES
from aweigh.train.models.detector import build_detector

NETWORK = {"width": 16, "channels": 16, "convs": 1}
SIZE_HW = (128, 160)

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
        content = to_graph(module, example, dynamic_shapes).SerializeToString()
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
    folder = tmp_path_factory.mktemp("checkpoints")

    def make(method: str) -> Path:
        path = folder / f"{method}.pt"
        if not path.exists():
            torch.manual_seed(0)
            spec_in = InputSpec(SIZE_HW)
            base, _, variant = method.partition("-")
            options = {"one_to_one": True} if variant else {}
            detector = build_detector("nano", base, len(SHAPES), spec_in, NETWORK, options).eval()
            with torch.no_grad():
                # Scores and boxes that differ from point to point, as after a training.
                detector.head.outputs["cls"].weight.normal_(0, 0.5)
                detector.head.outputs["cls"].bias.fill_(-1.0)
                detector.head.outputs["reg"].weight.normal_(0, 0.15)
                for name, buffer in detector.named_buffers():
                    if name.endswith("running_mean"):
                        buffer.normal_(0, 0.1)
                    elif name.endswith("running_var"):
                        buffer.uniform_(0.5, 2.0)
            best_conf = (None, *(0.5 for _ in SHAPES[1:]))
            spec = ModelSpec(base, "nano", SHAPES, spec_in, detector.method.post(), best_conf=best_conf)
            save_checkpoint(Checkpoint(spec, NETWORK, options, detector.state_dict(), {}, {}), path)
        return path

    return make


@pytest.fixture(scope="session")
def make_export(make_checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> MakeExport:
    """An exported file of a method; every combination of options is exported once."""
    folder = tmp_path_factory.mktemp("exports")

    def make(method: str, **options: Any) -> Path:
        name = "-".join([method, *(f"{key}={value}" for key, value in sorted(options.items()))])
        path = folder / f"{name}.onnx".replace(" ", "")
        if not path.exists():
            options = {"batch": (1, 4), "golden": 1, **options}
            run_export(make_checkpoint(method), path, ExportOptions(verify=False, **options))
        return path

    return make


@pytest.fixture
def checkpoint(make_checkpoint: MakeCheckpoint) -> Checkpoint:
    """The one most tests use."""
    return load_checkpoint(make_checkpoint("fcos"))

"""The sides of a comparison: a checkpoint in torch, an ONNX file in ONNX Runtime, an engine in TensorRT."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime
import torch

from aweigh.export.graph.inference import with_types
from aweigh.export.graph.traced import STAGE_PREFIX, Traced
from aweigh.runtime.backends.base import INPUT_NAME, Backend, Closing, own_errors
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.backends.onnxruntime_session import providers_of, session_options
from aweigh.runtime.backends.open import read_spec
from aweigh.runtime.device import Device
from aweigh.runtime.files.engine import is_engine
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.network import ImagesU8, Network, Outputs
from aweigh.runtime.spec import ModelSpec
from aweigh.train.checkpoint import Checkpoint, load_checkpoint
from aweigh.train.evaluation.predictors import TorchPredictor
from aweigh.train.models.deployable import Deployable
from aweigh.train.models.detector import DenseDetector
from aweigh.train.process.device import resolve_device

CHECKPOINT_SUFFIX = ".pt"
# Of the outputs that were computed in the same run as the tensors between the stages. The session that production runs
# is another, whose operators are fused otherwise, and rounding makes them differ in the last digits.
TAPPED_PREFIX = "tapped_"


class Side(Closing):
    """One model, ready to be run on prepared images.

    Attributes:
        path: of the file; None for a checkpoint that was never written.
        network: what computes it.
        spec: its contract.
        sha256: of the file; "" for a checkpoint that was never written.
        parents: hashes of the files it was made from.
        runs_in: the library that computes it, for reports.
        has_stages: whether it shows the tensors between the stages.
    """

    path: Path | None
    network: Network
    spec: ModelSpec
    sha256: str
    parents: frozenset[str]
    runs_in: str
    has_stages: bool

    def with_stages(self, images_u8: ImagesU8) -> Outputs:
        """The outputs and, under names with ``STAGE_PREFIX``, the tensors between the stages where there are any.

        A file's outputs are there once more, with ``TAPPED_PREFIX``, as computed from these very tensors.
        """
        return self.network.infer(images_u8)

    @property
    def name(self) -> str:
        """How reports call it."""
        return f"{self.path.name if self.path else 'trained model'} ({self.runs_in})"

    def related_to(self, other: Side) -> bool:
        """Whether one was made from the other, or both from one file."""
        return bool(({self.sha256} | self.parents) & ({other.sha256} | other.parents) - {""})

    def close(self) -> None:
        """Free memory and device."""
        self.network.close()


class Trained(Side):
    """The averaged weights of a checkpoint, eager, float32, with the input and the post-processing of a file.

    Attributes:
        own_post: post-processing of the method, whatever that of the file is.
    """

    has_stages = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        like: ModelSpec | None = None,
        device: str = "cpu",
        detector: DenseDetector | None = None,
    ) -> None:
        """
        Args:
            like: the contract of the file it is compared with; None for the checkpoint's own, and any batch.
            detector: ``checkpoint.detector()`` where the caller has it already; it is moved to the device.
        """
        self._checkpoint, self._like, self._where = checkpoint, like, device
        trained = replace(checkpoint.spec, batch=(1, sys.maxsize))
        self.own_post = trained.post
        if like is not None:
            as_exported = replace(trained.input, size_hw=like.input.size_hw, dynamic_size=like.input.dynamic_size)
            trained = replace(trained, input=as_exported, post=like.post)
        self.path = checkpoint.path
        self.spec = trained
        self.sha256 = checkpoint.sha256
        self.parents = frozenset()
        self.runs_in = _runs_in("torch", device)
        module = Deployable(detector or checkpoint.detector(), trained.post)
        torch_network = TorchPredictor(module, trained, resolve_device(device))
        self.network = torch_network
        self._device = torch_network.device
        self._traced = Traced(torch_network.module).eval()

    @torch.inference_mode()
    def with_stages(self, images_u8: ImagesU8) -> Outputs:
        values = self._traced(torch.from_numpy(images_u8).to(self._device))
        return {name: value.cpu().numpy() for name, value in zip(self._traced.output_names, values, strict=True)}

    def changed(self, change: Callable[[DenseDetector], DenseDetector]) -> Trained:
        """The same model after a change of its network, with the same input and post-processing, on the same device."""
        detector = change(self._checkpoint.detector())
        return Trained(self._checkpoint, self._like, self._where, detector)


class _File(Side):
    """A file in the runtime it is meant for."""

    def __init__(self, path: Path, backend: Backend, parents: Mapping[str, str]) -> None:
        self.path = path
        self.network = backend
        self.spec = backend.spec
        self.sha256 = backend.sha256
        self.parents = frozenset(value for name, value in parents.items() if name.endswith("_sha256"))


class OnnxSide(_File):
    """An ONNX file as production runs it, and a copy in memory that shows the tensors between the stages."""

    def __init__(self, path: Path, threads: int | None = None, device: str = "cpu") -> None:
        parsed = read_onnx(path)
        backend = OnnxRuntimeBackend(path, device, threads, parsed=parsed)
        super().__init__(path, backend, backend.spec.parents)
        self.runs_in = _runs_in("ONNX Runtime", device)
        self.device, self.threads = device, backend.threads
        self.model = ir.from_proto(onnx.load_from_string(parsed.content))
        present = {value.name or "" for node in self.model.graph for value in node.outputs}
        self._stages = [name for name in sorted(present) if name.startswith(STAGE_PREFIX)]
        self.has_stages = bool(self._stages)
        self._tapped = tapped_session(self.model, self._stages, backend.threads, device)

    @cached_property
    def typed(self) -> ir.Model:
        """The file's graph with all types, to be looked at and not changed."""
        return with_types(self.model)

    def with_stages(self, images_u8: ImagesU8) -> Outputs:
        outputs = self.network.infer(images_u8)
        if self._stages:
            names = self.spec.post.output_names
            with own_errors(self.runs_in, len(images_u8)):
                values = self._tapped.run([*self._stages, *names], {INPUT_NAME: images_u8})
            outputs |= dict(zip([*self._stages, *(TAPPED_PREFIX + name for name in names)], values, strict=True))
        return outputs


class EngineSide(_File):
    """A TensorRT engine on its GPU; its tensors between the stages are fused away."""

    runs_in = "TensorRT"
    has_stages = False

    def __init__(self, path: Path, device: str = "cuda") -> None:
        from aweigh.runtime.backends.tensorrt.backend import TensorRtBackend

        backend = TensorRtBackend(path, device)
        self.sidecar = backend.engine_file
        parents = {**self.sidecar.spec.parents, **self.sidecar.parents}
        super().__init__(path, backend, parents)


def contract_for(*paths: Path) -> ModelSpec | None:
    """The contract of the first exported file, for ``open_side``; None where all are checkpoints."""
    return next((read_spec(path) for path in paths if path.suffix != CHECKPOINT_SUFFIX), None)


def open_side(path: Path, like: ModelSpec | None = None, threads: int | None = None, device: str | None = None) -> Side:
    """A checkpoint (.pt), an ONNX file or an engine.

    Args:
        like: a checkpoint takes over the input size and the post-processing of this contract.
        threads: of ONNX Runtime.
        device: that runs it: ``cpu``, ``cuda`` or ``cuda:N``; None for the CPU, and for an engine its GPU.

    Raises:
        BadInput: not what the name says, or a device that such a file does not run on.
        CannotRun: the device is missing; an engine, and no TensorRT or no GPU for it.
    """
    if path.suffix == CHECKPOINT_SUFFIX:
        return Trained(load_checkpoint(path), like, device or "cpu")
    if is_engine(path):
        return EngineSide(path, device or "cuda")
    return OnnxSide(path, threads, device or "cpu")


def _runs_in(library: str, device: str) -> str:
    return library if device == "cpu" else f"{library} on {device}"


def tapped_session(model: ir.Model, tensors: Sequence[str], threads: int, device: str | Device = "cpu") -> Any:
    """A session of a copy of ``model`` that has these tensors as outputs too."""
    tapped = with_types(model)
    values = {value.name: value for node in tapped.graph for value in node.outputs}
    for name in tensors:
        value = values[name]
        value.type, value.shape = ir.TensorType(value.dtype or ir.DataType.FLOAT), None
        tapped.graph.outputs.append(value)
    return session_of(tapped, threads, device)


def session_of(model: ir.Model, threads: int, device: str | Device = "cpu") -> Any:
    """A session of ONNX Runtime of a graph in memory, with the runtime's own options: what it computes is proven."""
    return onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(),
        session_options(onnxruntime, threads),
        providers=providers_of(Device.parse(device), tensorrt=False),
    )

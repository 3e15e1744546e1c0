"""Networks to evaluate: a checkpoint in torch, or an exported file in its back end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.engine import is_engine
from aweigh.runtime.network import ImagesU8, Network, Outputs
from aweigh.runtime.opening import OpenOptions
from aweigh.runtime.spec import ModelSpec
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.models.deployable import Deployable
from aweigh.train.process.device import resolve_device


class TorchPredictor:
    """A network in eager torch, float32."""

    def __init__(self, module: Deployable, spec: ModelSpec, device: torch.device | str = "cpu") -> None:
        self.spec = spec
        self.device = device
        self.module = module.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @torch.inference_mode()
    def infer(self, images_u8: ImagesU8) -> Outputs:
        """See ``Network.infer``."""
        outputs = self.module(torch.from_numpy(images_u8).to(self.device))
        names = self.module.postprocess.spec.output_names
        return {name: tensor.cpu().numpy() for name, tensor in zip(names, outputs, strict=True)}

    def close(self) -> None:
        """The weights are freed with the object."""


@contextlib.contextmanager
def open_predictor(model: str | Path, opening: OpenOptions | None = None, agnostic: bool = False) -> Iterator[Network]:
    """A checkpoint (``.pt``) or an exported file (``.onnx``, ``.engine``), by its ending.

    Args:
        model: the file.
        opening: device and back end; a checkpoint is run by torch in float32, on ``cpu``, ``cuda`` or ``auto``.
        agnostic: of a checkpoint: a box is suppressed by a better one of any class. A file has its own NMS.

    Raises:
        BadInput: a file of another ending, a back end or precision given for a checkpoint, or ``agnostic`` of one that
            needs no NMS.
        CannotRun: the device is not available here.
    """
    opening, model = opening or OpenOptions(), Path(model)
    if model.suffix == ".pt":
        if opening.backend != "auto" or opening.precision is not None:
            raise BadInput(
                f"{model}: a checkpoint, run by torch in fp32; --backend and --precision are for exported files"
            )
        checkpoint = load_checkpoint(model)
        spec = checkpoint.spec
        if agnostic:
            if spec.post.kind == "none":
                raise BadInput(f"{model}: --agnostic: this checkpoint has no NMS; export it, and evaluate that file")
            spec = replace(spec, post=replace(spec.post, agnostic=True))
        if opening.threads:
            torch.set_num_threads(opening.threads)
        module = Deployable(checkpoint.detector(), spec.post)
        yield TorchPredictor(module, spec, resolve_device(opening.device))
    elif model.suffix == ".onnx" or is_engine(model):
        with opening.open(model) as detector:
            yield detector.backend
    else:
        raise BadInput(f"--model {model}: expected a checkpoint (.pt) or an exported file (.onnx, .engine)")

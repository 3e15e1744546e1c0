"""Checkpoints: tensors and JSON, nothing that could execute."""

from __future__ import annotations

import errno
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.files.engine import PLAN_SUFFIXES
from aweigh.runtime.files.reading import read_once
from aweigh.runtime.json_text import parse_json
from aweigh.runtime.spec import ModelSpec
from aweigh.train.models.detector import DenseDetector, build_detector
from aweigh.train.weights.tensor_file import read_tensors

FORMAT = "aweigh-checkpoint"
SCHEMA_MAJOR = 1
_EXPORTED = (".onnx", *PLAN_SUFFIXES)


@dataclass(frozen=True)
class Checkpoint:
    """A trained (or half-trained) model.

    Attributes:
        spec: the contract of the model; its post-processing is the method's own.
        network: sizes that differ from the named architecture's.
        options: those that differ from the method's defaults.
        weights: the averaged weights, by name, which are validated and exported.
        training: state of a run to be resumed (raw weights, optimizer, counters); empty in ``best.pt``.
        metrics: of the validation at which it was written.
        path: the file it was read from.
        sha256: of that file.
    """

    spec: ModelSpec
    network: dict[str, Any]
    options: dict[str, Any]
    weights: dict[str, Tensor]
    training: dict[str, Any]
    metrics: dict[str, Any]
    path: Path | None = None
    sha256: str = ""

    def detector(self) -> DenseDetector:
        """The network with the averaged weights, in evaluation mode, on the CPU."""
        spec = self.spec
        detector = build_detector(
            spec.architecture, spec.method, len(spec.categories), spec.input, self.network, self.options
        )
        try:
            detector.load_state_dict(self.weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:400]
            raise BadInput(f"{self.path}: weights do not fit {spec.architecture} / {spec.method}: {reason}") from error
        return detector.eval()


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint whole or not at all; equal checkpoints are equal files.

    Raises:
        CannotRun: the disk is full.
    """
    about = {
        "spec": checkpoint.spec.to_dict(),
        "network": checkpoint.network,
        "options": checkpoint.options,
        "metrics": checkpoint.metrics,
    }
    content = {
        "format": FORMAT,
        "schema": f"{SCHEMA_MAJOR}.0",
        "about": json.dumps(about, ensure_ascii=False),
        "weights": checkpoint.weights,
        "training": checkpoint.training,
    }
    # Not to the file itself: torch writes its name, which is temporary, into it.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise CannotRun(f"{path}: cannot be written, is the disk full? ({error})") from error


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint without executing anything in it.

    Raises:
        BadInput: no such file, a pickle or another file posing as a checkpoint, or one of another major schema.

    Example:
        >>> load_checkpoint(checkpoint_path).spec.input.size_hw
        (128, 160)
    """
    path = Path(path)
    data = read_once(path, "checkpoint")
    if path.suffix in _EXPORTED:
        raise BadInput(f"{path}: is exported already; expected the checkpoint (.pt) that it was made from")
    content = read_tensors(path, "--model", data)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BadInput(f"--model {path}: not an aweigh checkpoint; foreign weights are not read here")
    schema = str(content.get("schema"))[:40]
    if schema.split(".")[0] != str(SCHEMA_MAJOR):
        raise BadInput(f"--model {path}: schema {schema}, this aweigh reads {SCHEMA_MAJOR}.x")
    try:
        about = parse_json(content["about"], f"--model {path}")
        checkpoint = Checkpoint(
            ModelSpec.from_dict(about["spec"]),
            about["network"],
            about["options"],
            content["weights"],
            content["training"],
            about["metrics"],
            path,
            hashlib.sha256(data).hexdigest(),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"--model {path}: not as aweigh writes checkpoints ({error!r})") from error
    parts = (checkpoint.network, checkpoint.options, checkpoint.metrics, checkpoint.training, checkpoint.weights)
    if not all(isinstance(part, dict) and all(isinstance(name, str) for name in part) for part in parts):
        raise BadInput(f"--model {path}: not as aweigh writes checkpoints: expected values by name")
    if not all(isinstance(tensor, Tensor) for tensor in checkpoint.weights.values()):
        raise BadInput(f"--model {path}: not as aweigh writes checkpoints: expected tensors as weights")
    return checkpoint

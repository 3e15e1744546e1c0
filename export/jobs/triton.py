"""A Triton model repository around an exported file: version folder, config.pbtxt, labels."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aweigh.runtime.atomic import atomic_folder
from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.engine import is_engine, read_sidecar
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.spec import METADATA_KEY, ModelSpec

# Suffix of the file -> Triton's name of the back end, and the file name that it looks for by default.
_BACKENDS = {
    ".onnx": ("onnxruntime", "model.onnx"),
    ".engine": ("tensorrt", "model.plan"),
    ".plan": ("tensorrt", "model.plan"),
}
_LABELS = "labels.txt"
# NumPy's names of types, and those of Triton.
_TYPES = {"int64": "TYPE_INT64", "float32": "TYPE_FP32", "bool": "TYPE_BOOL"}
# How long a request may wait for others to join it. Far below a network's own time, so that a lone client pays little.
_QUEUE_DELAY_US = 2000


def write_repository(artifact: Path, spec: ModelSpec, model_folder: Path) -> Path:
    """Write ``config.pbtxt``, ``labels.txt`` and ``1/model.onnx`` (or ``1/model.plan``), all of them or none.

    The folder's name is the model's; the folder around it is what ``tritonserver --model-repository`` takes. The spec
    travels as the parameter ``aweigh``, so that a client can prepare images as the file wants them.

    Args:
        artifact: an exported file; copied.

    Raises:
        BadInput: a file of another kind, or a folder of that name is there already.
    """
    if artifact.suffix not in _BACKENDS:
        raise BadInput(f"{artifact}: expected a file that ends in {' or '.join(_BACKENDS)}")
    _, file_name = _BACKENDS[artifact.suffix]
    with atomic_folder(model_folder) as folder:
        (folder / "1").mkdir()
        shutil.copyfile(artifact, folder / "1" / file_name)
        names = "".join(f"{category.name}\n" for category in spec.categories)
        (folder / _LABELS).write_text(names, encoding="utf-8")
        (folder / "config.pbtxt").write_text(config(model_folder.name, artifact.suffix, spec), encoding="utf-8")
    return model_folder


@dataclass(frozen=True)
class TritonResult:
    """A model's folder in a Triton repository, and the exported file that was copied into it."""

    artifact: Path
    wrapped: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"artifact": str(self.artifact), "wrapped": str(self.wrapped), "verdict": "written"}


def run_triton(model: Path, out: Path | None) -> TritonResult:
    """Wrap an exported file.

    Args:
        out: the model's folder; default ``triton/NAME`` next to the file.

    Raises:
        BadInput: not an exported file; see :func:`write_repository`.
    """
    spec = read_sidecar(model).spec if is_engine(model) else read_onnx(model).spec(model)
    return TritonResult(write_repository(model, spec, out or model.parent / "triton" / model.stem), model)


def config(name: str, suffix: str, spec: ModelSpec) -> str:
    """``config.pbtxt``: inputs, outputs, batching.

    A file that takes 1 to N images is batched by Triton, which leaves the first axis out of all shapes. A file of one
    fixed batch has that number in its shapes, and is not.
    """
    low, high = spec.batch
    batched = low == 1 < high
    backend, file_name = _BACKENDS[suffix]
    lines = [
        f"name: {_quoted(name)}",
        f"backend: {_quoted(backend)}",
        f"default_model_filename: {_quoted(file_name)}",
        f"max_batch_size: {high if batched else 0}",
        _tensor("input", INPUT_NAME, "TYPE_UINT8", _image_dims(spec), spec, batched),
        *(_tensor("output", *described, spec, batched) for described in _outputs(spec)),
    ]
    if batched:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {_QUEUE_DELAY_US} }}")
    text = json.dumps(json.loads(spec.to_json()), ensure_ascii=False)
    lines.append(f"parameters {{ key: {_quoted(METADATA_KEY)} value {{ string_value: {_quoted(text)} }} }}")
    return "\n".join(lines) + "\n"


def _image_dims(spec: ModelSpec) -> list[int]:
    sides = [-1, -1] if spec.input.dynamic_size else list(spec.input.size_hw)
    return [*sides, 3]


def _outputs(spec: ModelSpec) -> list[tuple[str, str, list[int]]]:
    """Name, type and shape without the batch of every output."""
    sizes = {"P": -1, "C": len(spec.categories)}  # the number of points follows from the size of the image
    return [
        (output.name, _TYPES[output.dtype], [axis if isinstance(axis, int) else sizes[axis] for axis in output.axes])
        for output in spec.post.outputs
    ]


def _tensor(kind: str, name: str, type_name: str, dims: list[int], spec: ModelSpec, batched: bool) -> str:
    shape = dims if batched else [spec.batch[0] if spec.batch[0] == spec.batch[1] else -1, *dims]
    text = f"name: {_quoted(name)} data_type: {type_name} dims: [ {', '.join(map(str, shape or [1]))} ]"
    if not shape:  # one value per image: Triton has no empty shape, but lets one be reshaped to it
        text += " reshape { shape: [ ] }"
    if kind == "output" and name == "labels":
        text += f" label_filename: {_quoted(_LABELS)}"
    return f"{kind} [ {{ {text} }} ]"


def _quoted(text: str) -> str:
    """A string of protobuf's text format."""
    return json.dumps(text, ensure_ascii=False)

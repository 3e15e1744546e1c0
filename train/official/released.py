"""Files of released weights: the named tensors in them, whatever they are wrapped in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256
from aweigh.train.weights.tensor_file import read_tensors

# Where trainers keep the network's tensors; a file may also be nothing else.
_CONTAINERS = ("state_dict", "model")


@dataclass(frozen=True)
class Released:
    """A file of released weights.

    Attributes:
        tensors: by the names of the code that wrote them, in float32, without the prefix of parallel training.
        ignored: names left out, and why.
        class_names: as the file states them; () if it does not.
    """

    path: Path
    sha256: str
    tensors: dict[str, Tensor]
    ignored: dict[str, str]
    class_names: tuple[str, ...]


def read_released(path: Path) -> Released:
    """Read tensors and class names, and execute nothing.

    Raises:
        BadInput: no such file, a file with more in it than tensors and plain values, or one without tensors.
    """
    try:
        content = read_tensors(path, "--checkpoint")
    except BadInput as error:
        if not path.is_file():
            raise
        raise BadInput(
            f"{error}; if its source can be trusted, load it where it was made and save only the tensors: "
            "torch.save({'state_dict': checkpoint['state_dict'], 'meta': {}}, FILE)"
        ) from error
    if not isinstance(content, Mapping):
        raise BadInput(f"--checkpoint {path}: expected named tensors, got {type(content).__name__}")
    held: Any = next((content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)), content)
    tensors = {str(name): tensor for name, tensor in held.items() if isinstance(tensor, Tensor)}
    if not tensors:
        held_names = ", ".join(map(str, content)) or "nothing"
        raise BadInput(f"--checkpoint {path}: no named tensors in it; it holds {held_names}")
    ignored = {str(name): "no tensor" for name in held if str(name) not in tensors}
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    for name in [name for name in tensors if name.startswith("ema_")]:
        # mmcv exchanges both sets before it saves: the averaged weights stand under the plain names.
        del tensors[name]
        ignored[name] = "the other set of a moving average"
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return Released(path, file_sha256(path), floats, ignored, _class_names(content))


def _class_names(content: Mapping[Any, Any]) -> tuple[str, ...]:
    """mmdet 2 keeps ``CLASSES`` in ``meta``, mmdet 3 ``classes`` in its ``dataset_meta``."""
    meta = content.get("meta")
    if not isinstance(meta, Mapping):
        return ()
    nested = meta.get("dataset_meta")
    for place in (nested if isinstance(nested, Mapping) else {}, meta):
        for name in ("classes", "CLASSES"):
            names = place.get(name)
            if isinstance(names, str):
                return (names,)
            if isinstance(names, (list, tuple)) and names and all(isinstance(item, str) for item in names):
                return tuple(names)
    return ()

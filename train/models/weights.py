"""Backbone weights from a file or a URL, torchvision's layout, checked by sha256."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from torch import Tensor, nn

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.train.tensor_file import read_tensors


def load_backbone(backbone: nn.Module, source: str, sha256: str | None) -> list[str]:
    """Load ImageNet weights into a backbone.

    Args:
        source: a file, or an https URL, which is kept under ``$AWEIGH_CACHE`` (default ``~/.cache/aweigh``).
        sha256: expected digest, hexadecimal, whole or its first 8 or more digits; required for a URL.

    Returns:
        Names in the file that the backbone does not have (the classifier's).

    Raises:
        BadInput: wrong digest, not a file of tensors, a parameter missing or of another shape.
        CannotRun: the URL cannot be fetched.
    """
    path = _fetch(source, sha256) if "://" in source else Path(source)
    if not path.is_file():
        raise BadInput(f"--weights {path}: no such file")
    _check_digest(path, sha256)
    state = read_tensors(path, "--weights")
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BadInput(f"--weights {path}: expected named tensors as torchvision saves them")
    own = backbone.state_dict()
    wrong = [
        f"{name}: file {tuple(state[name].shape) if name in state else 'lacks it'}, network {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if not name.endswith("num_batches_tracked") and (name not in state or state[name].shape != tensor.shape)
    ]
    if wrong:
        raise BadInput(
            f"--weights {path}: {len(wrong)} of {len(own)} parameters do not fit, first {'; '.join(wrong[:3])}; "
            "take weights of the same ResNet depth, width 64 and the standard stem"
        )
    backbone.load_state_dict({name: state[name] for name in own if name in state}, strict=False)
    return sorted(set(state) - set(own))


def _fetch(url: str, sha256: str | None) -> Path:
    if urllib.parse.urlsplit(url).scheme != "https":
        raise BadInput(f"--weights {url}: only https URLs are fetched")
    if not sha256:
        raise BadInput(f"--weights {url}: a URL needs --weights-sha256")
    cache = Path(os.environ.get("AWEIGH_CACHE", "~/.cache/aweigh")).expanduser()
    target = cache / f"{sha256[:16]}-{Path(urllib.parse.urlsplit(url).path).name}"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        try:
            with urllib.request.urlopen(url, timeout=60) as response, atomic_write(target) as temporary:
                with temporary.open("wb") as file:
                    while block := response.read(1 << 20):
                        file.write(block)
                _check_digest(temporary, sha256)
        except (urllib.error.URLError, TimeoutError) as error:
            raise CannotRun(
                f"--weights {url}: cannot be fetched ({error}); fetch it elsewhere, name the file"
            ) from error
    return target


def _check_digest(path: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    if len(sha256) < 8:
        raise BadInput(f"--weights-sha256 {sha256!r}: at least 8 hexadecimal digits")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(sha256.lower()):
        raise BadInput(f"{path}: sha256 is {found}, expected {sha256}")

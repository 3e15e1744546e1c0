"""Where weights come from: a file, a URL with its sha256, or a repository of a Hugging Face hub."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.files.digest import file_sha256

_WHOLE_DIGITS = 64
_HUB = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
# The safe format first; of a pickle only tensors are read.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def fetch_weights(source: str) -> Path:
    """A local file with the weights; fetched ones are kept under ``$AWEIGH_CACHE`` (default ``~/.cache/aweigh``).

    Args:
        source: ``FILE``, ``https://...``, or ``hf:owner/name[@revision]`` (of it ``model.safetensors``, else
            ``pytorch_model.bin``; ``$HF_ENDPOINT`` names another hub). ``#sha256=DIGITS`` at the end is compared with
            the file: at least 8 digits, the first ones. A URL needs it, one without TLS all 64 digits.

    Raises:
        BadInput: no such file or repository, a malformed source, another digest.
        CannotRun: it cannot be fetched; the hub's client is not installed.
    """
    place, _, fragment = source.partition("#sha256=")
    if "#sha256=" in source and not re.fullmatch(r"[0-9a-fA-F]{8,64}", fragment):
        raise BadInput(f"--weights {source}: expected 8 to 64 hexadecimal digits after #sha256=")
    if place.startswith("hf:"):
        path = _from_hub(place)
    elif "://" in place:
        return _from_url(place, fragment)
    else:
        path = Path(place)
        if not path.is_file():
            raise BadInput(f"--weights {place}: no such file")
    _require_digest(path, fragment)
    return path


def _from_url(url: str, digits: str) -> Path:
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in ("https", "http"):
        raise BadInput(f"--weights {url}: expected a file, an https URL or hf:owner/name")
    if not digits or (scheme == "http" and len(digits) < _WHOLE_DIGITS):
        raise BadInput(f"--weights {url}: a URL needs #sha256=DIGITS at its end, a plain http one all 64 digits")
    target = _cache() / f"{digits[:16]}-{Path(urllib.parse.urlsplit(url).path).name}"
    if target.exists():
        _require_digest(target, digits)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as response, atomic_write(target) as temporary:
            with temporary.open("wb") as file:
                while block := response.read(1 << 20):
                    file.write(block)
            _require_digest(temporary, digits)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise CannotRun(f"--weights {url}: cannot be fetched ({error}); fetch it elsewhere, name the file") from error
    return target


def _from_hub(place: str) -> Path:
    match = _HUB.fullmatch(place)
    if match is None:
        raise BadInput(f"--weights {place}: expected hf:owner/name or hf:owner/name@revision")
    try:
        from huggingface_hub import errors, hf_hub_download
    except ModuleNotFoundError as error:
        raise CannotRun(f"--weights {place}: needs huggingface_hub: pip install 'aweigh[hub]'") from error
    for name in _HUB_FILES:
        try:
            return Path(
                hf_hub_download(
                    match["repo"],
                    name,
                    revision=match["revision"],
                    cache_dir=_cache() / "hub",
                    endpoint=os.environ.get("HF_ENDPOINT"),
                )
            )
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
            raise BadInput(f"--weights {place}: {str(error).strip().splitlines()[0]}") from error
        except errors.RemoteEntryNotFoundError:
            continue
        except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
            raise CannotRun(
                f"--weights {place}: cannot be fetched ({str(error).strip().splitlines()[0]}); fetch it elsewhere, "
                "name the file"
            ) from error
    raise BadInput(f"--weights {place}: the repository has neither {' nor '.join(_HUB_FILES)}")


def _cache() -> Path:
    return Path(os.environ.get("AWEIGH_CACHE", "~/.cache/aweigh")).expanduser()


def _require_digest(path: Path, digits: str) -> None:
    if not digits:
        return
    sha256 = file_sha256(path)
    if not sha256.startswith(digits.lower()):
        raise BadInput(f"--weights: sha256 of {path.name} is {sha256}, expected {digits}")

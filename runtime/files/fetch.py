"""Files by their source: a path, an address with its digest, or a repository of a Hugging Face hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.files.download import download, require_digest, split_url
from aweigh.runtime.files.hub import HubPlace, endpoint, hub_client

CACHE_VARIABLE = "AWEIGH_CACHE"
# Of a repository without the name of a file: these, in this order.
MODEL_FILES = ("model.onnx", "best.onnx")
_DIGEST = "#sha256="

OnProgress: TypeAlias = Callable[[int, int | None], None]
# Takes the name of a file; what it gives is called with the bytes that are there and, where known, those of all of it.
Tracker: TypeAlias = Callable[[str], AbstractContextManager[OnProgress]]


@contextmanager
def untracked(name: str) -> Iterator[OnProgress]:
    """Shows nothing."""
    yield lambda done_bytes, total_bytes: None


def is_remote(source: str) -> bool:
    """Whether a source is an address or a repository, and not a path.

    Example:
        >>> is_remote("hf:owner/name"), is_remote("best.onnx")
        (True, False)
    """
    return source.startswith("hf:") or "://" in source


def source_name(source: str, flag: str) -> str:
    """What to call a source: its file without the suffix; a repository without a file by its own name, dots included.

    Args:
        source: as for :func:`fetch`.
        flag: begins every message.

    Raises:
        BadInput: a malformed source.

    Example:
        >>> source_name("hf:owner/cells-1.5@v2", "--model"), source_name("runs/best.onnx", "--model")
        ('cells-1.5', 'best')
    """
    place = source.partition(_DIGEST)[0]
    if place.startswith("hf:"):
        wanted = HubPlace.parse(place, flag)
        return Path(wanted.file).stem if wanted.file else wanted.repo.partition("/")[2]
    return Path(split_url(place, flag)[1] if is_remote(place) else source).stem


def fetch_model(source: str) -> Path:
    """An exported file, for ``Detector``: fetched once and kept under ``$AWEIGH_CACHE`` (default ``~/.cache/aweigh``).

    Args:
        source: ``FILE``, ``https://...#sha256=DIGITS`` or ``hf:owner/name[/FILE][@revision]``, see :func:`fetch`; of a
            repository without a file ``model.onnx``, else ``best.onnx``.

    Raises:
        BadInput, CannotRun: as :func:`fetch`.

    Example:
        >>> fetch_model(str(model_path)) == model_path
        True
    """
    return fetch(source, "model", MODEL_FILES)


def fetch(source: str, flag: str, hub_files: Sequence[str], tracker: Tracker = untracked) -> Path:
    """A local file; what comes from elsewhere is kept under ``$AWEIGH_CACHE`` (default ``~/.cache/aweigh``).

    Args:
        source: ``FILE``, ``https://...``, or ``hf:owner/name[/FILE][@revision]`` (``$HF_ENDPOINT`` names another hub).
            ``#sha256=DIGITS`` at the end is compared with the file: at least 8 digits, the first ones. A URL needs it,
            one without TLS all 64 digits.
        flag: begins every message.
        hub_files: of a repository without ``FILE``: the names that are looked for, in this order.
        tracker: shows the progress of a download.

    Raises:
        BadInput: no such file or repository, a malformed source, another digest.
        CannotRun: it cannot be fetched; the hub's client is not installed.
    """
    place, _, digits = source.partition(_DIGEST)
    if _DIGEST in source and not re.fullmatch(r"[0-9a-fA-F]{8,64}", digits):
        raise BadInput(f"{flag} {source}: expected 8 to 64 hexadecimal digits after #sha256=")
    if place.startswith("hf:"):
        path = _from_hub(place, flag, hub_files)
    elif "://" in place:
        name = split_url(place, flag)[1]
        with tracker(name) as on_progress:
            return download(place, _cache() / (digits[:16] or "none") / name, digits, flag, on_progress)
    else:
        path = Path(place)
        if not path.is_file():
            raise BadInput(f"{flag} {place}: no such file")
    if digits:
        require_digest(path, digits, flag)
    return path


def _from_hub(place: str, flag: str, hub_files: Sequence[str]) -> Path:
    wanted = HubPlace.parse(place, flag)
    client = hub_client(f"{flag} {place}")
    from huggingface_hub import errors

    names = (wanted.file,) if wanted.file else tuple(hub_files)
    for name in names:
        try:
            return Path(
                client.hf_hub_download(
                    wanted.repo,
                    name,
                    revision=wanted.revision,
                    cache_dir=_cache() / "hub",
                    endpoint=endpoint(),
                )
            )
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
            raise BadInput(f"{flag} {place}: {str(error).strip().splitlines()[0]}") from error
        except errors.RemoteEntryNotFoundError:
            continue
        except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
            raise CannotRun(
                f"{flag} {place}: cannot be fetched ({str(error).strip().splitlines()[0]}); fetch it elsewhere, "
                "name the file"
            ) from error
    if wanted.file:
        raise BadInput(f"{flag} {place}: the repository has no {wanted.file}")
    raise BadInput(f"{flag} {place}: the repository has neither {' nor '.join(names)}; name the file: {place}/FILE")


def _cache() -> Path:
    return Path(os.environ.get(CACHE_VARIABLE, "~/.cache/aweigh")).expanduser()

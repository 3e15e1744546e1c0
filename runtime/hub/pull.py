"""A model file from a hub, with the receipt that lies next to it there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput, CheckFailed
from aweigh.runtime.files.digest import file_sha256, receipt_path
from aweigh.runtime.files.fetch import MODEL_FILES, Tracker, fetch, untracked
from aweigh.runtime.files.hub import HubPlace
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.files.reading import read_once
from aweigh.runtime.json_text import parse_json


@dataclass(frozen=True)
class Pulled:
    """What was fetched.

    Attributes:
        file: where the model lies now.
        sha256: of the model.
        receipt: where its receipt lies; None where the repository has none.
        verdict: of the receipt.
    """

    file: Path
    sha256: str
    receipt: Path | None
    verdict: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        receipt = None if self.receipt is None else str(self.receipt)
        return {"file": str(self.file), "sha256": self.sha256, "receipt": receipt, "verdict": self.verdict}


def pull(source: str, out: Path, tracker: Tracker = untracked) -> Pulled:
    """Fetch a model file and its receipt; both are written once it is known that they belong together.

    Args:
        source: ``hf:owner/name[/FILE][@revision][#sha256=DIGITS]``.
        out: the file to write; the receipt goes next to it.
        tracker: shows the progress of a download.

    Raises:
        BadInput: no such repository or file, another digest, no exported model, a receipt that cannot be read.
        CheckFailed: the receipt there is about another file.
        CannotRun: it cannot be fetched; the hub's client is not installed.
    """
    if not source.startswith("hf:"):
        raise BadInput(f"{source}: expected hf:owner/name, hf:owner/name/FILE or either with @revision")
    if out.suffix != ".onnx":
        raise BadInput(f"--out {out}: expected the name of an ONNX file, such as mine.onnx")
    model = fetch(source, "--model", MODEL_FILES, tracker)
    parsed = read_onnx(model)
    parsed.spec(model)
    kept = _receipt_next_to(source, model)
    verdict = None if kept is None else _verdict(kept, parsed.sha256, source)
    _copy(model, out)
    receipt = None if kept is None else receipt_path(out)
    if kept is not None and receipt is not None:
        _copy(kept, receipt)
    if file_sha256(out) != parsed.sha256:
        raise BadInput(f"{out}: was changed while it was written; pull it again")
    return Pulled(out, parsed.sha256, receipt, verdict)


def _receipt_next_to(source: str, model: Path) -> Path | None:
    """The receipt of the same revision; None where the repository has none."""
    place = HubPlace.parse(source.partition("#")[0], "--model")
    name = str(receipt_path(PurePosixPath(place.file or model.name)))
    revision = f"@{place.revision}" if place.revision else ""
    try:
        return fetch(f"hf:{place.repo}/{name}{revision}", "--model", ())
    except BadInput:  # the repository and the revision are there, or the model was not: this file is not
        return None


def _verdict(receipt: Path, sha256: str, source: str) -> str | None:
    found = parse_json(read_once(receipt, "receipt"), f"the receipt of {source}", "take another revision")
    if not isinstance(found, dict):
        raise BadInput(f"the receipt of {source}: expected a JSON object; take another revision")
    if found.get("sha256") != sha256:
        raise CheckFailed(f"{source}: its receipt is about another file than the one there; nothing was written")
    verdict = found.get("verdict")
    return verdict if isinstance(verdict, str) else None


def _copy(source: Path, target: Path) -> None:
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)
